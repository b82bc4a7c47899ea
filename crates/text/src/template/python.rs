//! What Python's json, str and datetime and Jinja's tests do where chat templates rely on it (spec `CT-01`).
//!
//! One limit: floats below 1e-4 and from 1e16 are spelt without an exponent where `~`, `join` or a list shows them; a
//! template can write `x|string` there.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::fmt::Write;

/// Values nested deeper than this are refused, so that hostile templates cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

pub(super) fn install(env: &mut Environment<'static>, now: Option<Timestamp>) {
    env.add_filter("tojson", tojson);
    env.add_filter("string", |state: &State, value: &Value| match float(value) {
        Some(x) => Ok(Value::from(repr(x))),
        None => minijinja::filters::string(state, value),
    });
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    env.add_test("sequence", |value: &Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Map | Seq | String | Undefined)
    });
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", move |format: &str| -> Result<String, Error> {
        let time = now.unwrap_or_else(Timestamp::now).to_zoned_datetime(TimeZone::UTC);
        jiff::fmt::strtime::format(format, &time)
            .map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {e}")))
    });
    env.set_unknown_method_callback(|state, value, method, args| match (method, value.as_str(), args) {
        ("zfill", Some(text), [width]) => zfill(text, width),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    });
    env.set_formatter(|out, state, value| match float(value) {
        Some(x) => out.write_str(&repr(x)).map_err(Error::from),
        None => minijinja::escape_formatter(out, state, value),
    });
}

fn float(value: &Value) -> Option<f64> {
    if value.is_number() && !value.is_integer() { f64::try_from(value.clone()).ok() } else { None }
}

/// `repr` of a float: the shortest digits, in exponent form below 1e-4 and from 1e16.
fn repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn zfill(text: &str, width: &Value) -> Result<Value, Error> {
    let width = usize::try_from(width.clone())?;
    if width > 4096 {
        return Err(Error::new(ErrorKind::InvalidOperation, "zfill: width above 4096"));
    }
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let zeros = "0".repeat(width.saturating_sub(text.chars().count()));
    Ok(Value::from(format!("{sign}{zeros}{digits}")))
}

/// `json.dumps` as transformers calls it: no HTML escapes, `ensure_ascii` off by default.
fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let ensure_ascii = ensure_ascii.or(kwargs.get("ensure_ascii")?).unwrap_or(false);
    let indent = match indent.or(kwargs.get("indent")?) {
        None => None,
        Some(value) => match value.kind() {
            ValueKind::None | ValueKind::Undefined => None,
            ValueKind::String => Some(value.to_string()),
            _ => Some(" ".repeat(usize::try_from(value)?.min(64))),
        },
    };
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair")),
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let mut json = Json { out: String::new(), state, ensure_ascii, indent, item, key, sort_keys };
    json.value(value, 0)?;
    Ok(Value::from(json.out))
}

struct Json<'a, 's, 'e> {
    out: String,
    state: &'a State<'s, 'e>,
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl Json<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // Paid as it grows: the engine itself only charges for the result.
        self.state.consume_fuel(1)?;
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let text = self.number(value);
                self.out.push_str(&text);
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            kind => {
                let problem = format!("tojson: {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        }
        Ok(())
    }

    fn number(&self, value: &Value) -> String {
        match float(value) {
            Some(x) if x.is_nan() => "NaN".into(),
            Some(x) if x.is_infinite() => {
                if x > 0.0 {
                    "Infinity".into()
                } else {
                    "-Infinity".into()
                }
            }
            Some(x) => repr(x),
            None => value.to_string(),
        }
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            self.separate(&mut empty, depth);
            self.value(&item, depth + 1)?;
        }
        self.close(']', empty, depth);
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        for key in value.try_iter()? {
            let name = match key.kind() {
                ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                ValueKind::None => "null".into(),
                ValueKind::Bool => {
                    if key.is_true() {
                        "true".into()
                    } else {
                        "false".into()
                    }
                }
                ValueKind::Number => self.number(&key),
                _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: a key is not text")),
            };
            entries.push((name, value.get_item(&key)?));
        }
        if self.sort_keys {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.out.push('{');
        let mut empty = true;
        for (name, item) in entries {
            self.separate(&mut empty, depth);
            self.string(&name)?;
            self.out.push_str(&self.key);
            self.value(&item, depth + 1)?;
        }
        self.close('}', empty, depth);
        Ok(())
    }

    fn separate(&mut self, empty: &mut bool, depth: usize) {
        if !*empty {
            self.out.push_str(&self.item);
        }
        *empty = false;
        self.new_line(depth + 1);
    }

    fn close(&mut self, bracket: char, empty: bool, depth: usize) {
        if !empty {
            self.new_line(depth);
        }
        self.out.push(bracket);
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 16)?;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1e20, "1e+20"),
            (1e-4, "0.0001"),
            (1e-7, "1e-07"),
            (1.5e300, "1.5e+300"),
            (-2.5, "-2.5"),
            (f64::INFINITY, "inf"),
        ];
        for (x, text) in cases {
            assert_eq!(repr(x), text);
        }
    }
}
