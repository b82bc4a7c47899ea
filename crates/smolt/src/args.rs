//! Values on the command line that must be of a form: numbers in a range, files with a name.

use std::path::PathBuf;

/// A temperature: any number from 0 on.
pub(crate) fn temperature(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0, "a number that is 0 or more")
}

/// A share of all probability.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number <= 1.0, "a number above 0 and at most 1")
}

/// How many of something, at least one.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "give a whole number that is 1 or more".to_owned())
}

/// `NAME=FILE`.
pub(crate) fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write it as NAME=FILE, e.g. prose=held-out.jsonl".to_owned()),
    }
}

fn number(text: &str, fits: impl Fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number.is_finite() && fits(number));
    number.ok_or_else(|| format!("give {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_has_both() {
        assert_eq!(named_file("a=b=c"), Ok(("a".into(), "b=c".into())));
        for wrong in ["a", "=b", "a=", ""] {
            assert!(named_file(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused() {
        assert_eq!((temperature("0"), temperature("0.6")), (Ok(0.0), Ok(0.6)));
        assert_eq!((share("1"), share("0.95"), count("4")), (Ok(1.0), Ok(0.95), Ok(4)));
        for wrong in ["nan", "inf", "-0.1", "x", ""] {
            assert!(temperature(wrong).is_err() && share(wrong).is_err() && count(wrong).is_err(), "{wrong}");
        }
        assert!(share("0").is_err() && share("1.1").is_err() && count("0").is_err() && count("1.5").is_err());
    }
}
