use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// Serves one answer after the other, and says what was asked for.
async fn engine(listener: UnixListener, answers: &[&str]) -> Vec<String> {
    let mut asked = Vec::new();
    for answer in answers {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = client.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        asked.push(request.split(' ').nth(1).unwrap().to_owned());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        client.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).await.unwrap();
    }
    asked
}

#[tokio::test]
async fn an_engine_is_asked_in_the_version_that_both_know() {
    let socket = std::env::temp_dir().join(format!("weave-rs-engine-{}", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let docker = Docker::of_this_host(Some(&format!("unix://{}", socket.display())));
    let info = r#"{"Runtimes":{"weave-rs":{"path":"/x"}},"DefaultRuntime":"weave-rs"}"#;
    let answers = [r#"{"Version":"29.1","ApiVersion":"1.57","MinAPIVersion":"1.40"}"#, info, "[{}]", "[{}]"];
    let ask = async {
        assert!(docker.engine().is_none());
        docker.listed("0123").await.unwrap();
        docker.clone().listed("0123").await.unwrap();
    };

    let (asked, ()) = tokio::join!(engine(listener, &answers), ask);

    assert_eq!(asked[..2], ["/version", "/v1.44/info"]);
    assert!(asked[2..].iter().all(|path| path.starts_with("/v1.44/containers/json?")), "{asked:?}");
    let met = docker.engine().unwrap();
    assert_eq!((met.release.as_str(), met.api.to_string().as_str()), ("29.1", "1.44"));
    std::fs::remove_file(&socket).unwrap();
    assert!(matches!(docker.listed("0123").await, Err(DockerError::Unreachable { .. })));
    assert!(docker.engine().is_none(), "whoever comes back may be another");
}

#[test]
fn a_processs_container_is_told_by_its_control_group() {
    let (outer, inner) = ("0a".repeat(32), "b1".repeat(32));
    for (groups, expected) in [
        (format!("0::/system.slice/docker-{outer}.scope\n"), Some(&outer)),
        (format!("12:pids:/docker/{outer}\n1:name=systemd:/docker/{outer}\n"), Some(&outer)),
        (format!("0::/docker/{outer}/docker/{inner}\n"), Some(&inner)),
        ("0::/user.slice/session-3.scope\n".to_owned(), None),
        (format!("0::/docker/{outer}0\n"), None),
    ] {
        assert_eq!(id_in(&groups).as_ref(), expected, "{groups}");
    }
}

#[test]
fn a_name_cannot_lead_to_another_url() {
    for text in ["a/../b", "a?x", "a#", "-a", "", "a b"] {
        assert!(!Docker::is_container_name(text), "{text}");
    }
    assert!(Docker::is_container_name("web_1.my-app"));
}

#[tokio::test]
async fn an_absent_engine_is_named_in_the_error() {
    let docker = Docker::of_this_host(Some("unix:///nonexistent/docker.sock"));

    let error = docker.inspect("web").await.unwrap_err();

    let text = error.to_string();
    assert!(text.contains("/nonexistent/docker.sock") && text.contains("`web`"), "{text}");
}
