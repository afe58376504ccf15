//! The program as it is started. What its services do, hosts with Docker show (netns-tests/tests/ecs.rs), which start the
//! program that is built for this test.

use std::process::Command;

#[test]
fn what_it_does_not_know_is_answered_with_what_it_knows() -> std::io::Result<()> {
    for words in
        [&[][..], &["httpserver"], &["httpserver", "one", "two"], &["dataproducer", "one"], &["lookup"], &["dance"]]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_weave-demo")).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("usage: weave-demo dataproducer | httpserver NAME | lookup NAME"), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    Ok(())
}
