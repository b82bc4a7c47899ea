//! Checks names and inputs, and puts steps in an order in which they can run.

use super::{GraphError, Step};
use crate::recipe::nearest;

/// Indices into `steps`: every step after its inputs, otherwise in the order given.
pub fn order(steps: &[Step]) -> Result<Vec<usize>, GraphError> {
    check(steps)?;
    let mut done = vec![false; steps.len()];
    let mut order = Vec::with_capacity(steps.len());
    while order.len() < steps.len() {
        let is_done = |name: &String| steps.iter().zip(&done).any(|(step, &done)| done && step.name == *name);
        let ready = (0..steps.len()).find(|&at| !done[at] && steps[at].inputs.iter().all(is_done));
        match ready {
            Some(at) => {
                done[at] = true;
                order.push(at);
            }
            None => return Err(GraphError::Cycle(cycle(steps, &done))),
        }
    }
    Ok(order)
}

/// Whether it is a plain name of a folder or file: no path, no hidden one.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain)
}

fn check(steps: &[Step]) -> Result<(), GraphError> {
    for (at, step) in steps.iter().enumerate() {
        let name = &step.name;
        if !is_plain_name(name) {
            return Err(GraphError::BadName(name.clone()));
        }
        if steps[..at].iter().any(|other| other.name == *name) {
            return Err(GraphError::Duplicate(name.clone()));
        }
        for input in &step.inputs {
            let names = || steps.iter().map(|step| step.name.as_str());
            if !names().any(|name| name == input) {
                let fix = match nearest(input, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
                };
                return Err(GraphError::UnknownInput { step: name.clone(), input: input.clone(), fix });
            }
        }
    }
    Ok(())
}

/// Follows unfinished inputs from any unfinished step until one comes again.
fn cycle(steps: &[Step], done: &[bool]) -> Vec<String> {
    let unfinished = |name: &str| (0..steps.len()).find(|&at| !done[at] && steps[at].name == name);
    let mut path = Vec::new();
    let mut next = done.iter().position(|done| !done);
    while let Some(at) = next {
        if let Some(start) = path.iter().position(|&seen| seen == at) {
            path.drain(..start);
            path.push(at);
            break;
        }
        path.push(at);
        next = steps[at].inputs.iter().find_map(|input| unfinished(input));
    }
    path.into_iter().map(|at| steps[at].name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::step;
    use super::*;
    use serde_json::Value;

    fn steps(all: &[(&str, &[&str])]) -> Vec<Step> {
        all.iter().map(|(name, inputs)| step(name, Value::Null, inputs)).collect()
    }

    #[test]
    fn inputs_come_first_and_the_given_order_stays() {
        let all = steps(&[
            ("report", &["eval", "train"]),
            ("data", &[]),
            ("train", &["data"]),
            ("eval", &["train"]),
        ]);
        assert_eq!(order(&all).unwrap(), [1, 2, 3, 0]);
        assert_eq!(order(&[]).unwrap(), [0usize; 0]);
    }

    #[test]
    fn mistakes_are_named() {
        let message = |all: &[(&str, &[&str])]| order(&steps(all)).unwrap_err().to_string();
        assert!(message(&[("x", &["a"]), ("a", &["b"]), ("b", &["a"])]).contains("a → b → a"));
        assert!(message(&[("a", &["a"])]).contains("a → a"));
        assert!(message(&[("train", &[]), ("eval", &["trian"])]).contains("did you mean `train`?"));
        assert!(message(&[("a", &[]), ("a", &[])]).contains("two steps are named `a`"));
        for bad in ["", "..", ".hidden", "a/b", "a b", "ä"] {
            assert!(message(&[(bad, &[])]).contains("step name"), "{bad}");
        }
    }
}
