//! Questions in JSON, to servers that answer and servers that do not.
#![cfg(feature = "network")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Body, Fault, Faults, Reply, Server, address, hasty, impatient, store};
use smolt_store::Why;

const MOST: usize = 1 << 20;

/// A server that says what it was asked, with planted faults.
fn echo() -> (Server, Faults) {
    let faults = Faults::default();
    let planted = faults.clone();
    (Server::start(move |request| planted.spoil(Reply::new(200, request.body.clone()))), faults)
}

#[test]
fn a_question_survives_passing_faults_and_arrives_whole() {
    let (server, faults) = echo();
    faults.plant([
        Fault::Status(500),
        Fault::StatusWith(429, "Retry-After", "0"),
        Fault::Cut(3),
        Fault::None,
    ]);
    let url = address(format!("{}/v1/completions", server.url));
    let body = br#"{"prompt": "a \u6c34"}"#;
    assert_eq!(store(hasty(), &[]).post_json(&url, Some("secret"), body, MOST).unwrap(), body);
    let requests = server.requests();
    assert_eq!(server.lines(), ["POST /v1/completions"; 4]);
    assert!(requests.iter().all(|request| request.body == body));
    assert!(requests.iter().all(|request| request.header("content-type") == Some("application/json")));
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer secret")));
    store(hasty(), &[]).get_json(&url, None, MOST).unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.header("authorization")), ("GET", None));
}

#[test]
fn a_refusal_is_final_and_in_the_words_of_the_server() {
    for (status, why) in [(400, Why::Refused), (422, Why::Refused), (401, Why::Denied), (404, Why::NotFound)]
    {
        let server =
            Server::start(move |_| Reply::new(status, r#"{"error": {"message": "echo is\nnot supported"}}"#));
        let url = address(format!("{}/v1/completions?key=hidden", server.url));
        let error = store(hasty(), &[]).post_json(&url, Some("secret"), b"{}", MOST).unwrap_err();
        let said = error.to_string();
        assert_eq!((error.why(), server.requests().len()), (Some(why), 1), "{said}");
        assert!(said.contains("echo is not supported") && said.contains(&status.to_string()), "{said}");
        assert!(!said.contains("secret") && !said.contains("hidden") && !said.contains('\n'), "{said}");
    }
}

#[test]
fn faults_that_stay_and_answers_without_end_are_errors() {
    let (server, faults) = echo();
    let url = address(format!("{}/v1", server.url));
    faults.plant(vec![Fault::Status(503); 4]);
    let error = store(hasty(), &[]).post_json(&url, None, b"{}", MOST).unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("tried 4 times") && error.contains("sorry"), "{error}");
    faults.plant(vec![Fault::Stall(1); 4]);
    let error = store(impatient(), &[]).post_json(&url, None, b"{}", MOST).unwrap_err().to_string();
    assert!(error.contains("sent nothing for 1 s"), "{error}");
    let endless = Server::start(|_| Reply { status: 200, headers: Vec::new(), body: Body::Endless });
    let error = store(hasty(), &[]).post_json(&address(&endless.url), None, b"{}", MOST).unwrap_err();
    assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    let endless = Server::start(|_| Reply { status: 400, headers: Vec::new(), body: Body::Endless });
    let error = store(hasty(), &[]).post_json(&address(&endless.url), None, b"{}", MOST).unwrap_err();
    assert_eq!(error.why(), Some(Why::Refused));
    for elsewhere in ["s3://b/k", "hf://o/n/f", "a/file"] {
        let error = store(hasty(), &[]).post_json(&address(elsewhere), None, b"{}", MOST).unwrap_err();
        assert_eq!(error.why(), Some(Why::Unsupported), "{error}");
    }
}
