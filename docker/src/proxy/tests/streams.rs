//! Streams in both directions, and connections that become one.

use super::*;

#[tokio::test]
async fn a_hijack_by_upgrade_passes_early_octets_and_both_half_closes() {
    let stage = Stage::new();
    let request =
        "POST /exec/x/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}early";
    let mut client = stage.client(request.as_bytes()).await;
    let mut engine = stage.engine().await;
    expect(&mut engine, request.strip_suffix("early").unwrap()).await;

    let answer = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nout";
    engine.write_all(answer.as_bytes()).await.unwrap();

    expect(&mut client, answer).await;
    expect(&mut engine, "early").await;
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    expect(&mut engine, "late").await;
    expect_end(&mut engine).await;
    engine.write_all(b"after the end of input").await.unwrap();
    expect(&mut client, "after the end of input").await;
    drop(engine);
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_hijack_by_a_bare_200_is_a_stream_and_input_may_end_before_it() {
    let stage = Stage::new();
    let mut client = stage.client(b"POST /containers/x/attach?stdin=1 HTTP/1.1\r\n\r\ninput").await;
    client.shutdown().await.unwrap();
    let mut engine = stage.engine().await;
    expect(&mut engine, "POST /containers/x/attach?stdin=1 HTTP/1.1\r\n\r\n").await;

    engine.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n").await.unwrap();

    expect(&mut engine, "input").await;
    expect_end(&mut engine).await;
    engine.write_all(b"GET / HTTP/1.1 is output here\r\n\r\n").await.unwrap();
    drop(engine);
    let mut output = String::new();
    client.read_to_string(&mut output).await.unwrap();
    assert!(output.ends_with("raw-stream\r\n\r\nGET / HTTP/1.1 is output here\r\n\r\n"), "{output}");
}

#[tokio::test]
async fn output_arrives_from_an_engine_that_takes_no_more_input() {
    let stage = Stage::new();
    let mut client = stage.client(b"POST /containers/x/attach HTTP/1.1\r\n\r\n").await;
    let mut engine = stage.engine().await;
    engine.write_all(b"HTTP/1.1 101 UPGRADED\r\n\r\n").await.unwrap();
    expect(&mut client, "HTTP/1.1 101 UPGRADED\r\n\r\n").await;

    engine.write_all(b"last words").await.unwrap();
    drop(engine);
    let _ = client.write_all(b"input that nobody reads").await;

    expect(&mut client, "last words").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_refused_hijack_leaves_the_connection_to_requests() {
    let stage = Stage::new();
    let mut client = stage.client(b"POST /containers/x/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n").await;
    let mut engine = stage.engine().await;
    engine.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    expect(&mut client, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").await;

    client.write_all(&create("{}")).await.unwrap();

    expect(&mut engine, "POST /containers/x/attach HTTP/1.1\r\nUpgrade: tcp\r\n\r\n").await;
    assert_eq!(message(&mut engine).await.1["Hostname"], "web");
}

#[tokio::test]
async fn an_engine_learns_that_a_client_no_longer_follows() {
    let stage = Stage::new();
    let mut client = stage.client(b"GET /events HTTP/1.1\r\n\r\n").await;
    let mut engine = stage.engine().await;
    expect(&mut engine, "GET /events HTTP/1.1\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n").await.unwrap();
    expect(&mut client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n").await;

    drop(client);

    expect_end(&mut engine).await;
}

#[tokio::test]
async fn requests_sent_before_an_end_of_input_are_all_answered() {
    let stage = Stage::new();
    let request = "GET /_ping HTTP/1.1\r\n\r\n";
    let mut client = stage.client(request.repeat(3).as_bytes()).await;
    client.shutdown().await.unwrap();
    let mut engine = stage.engine().await;

    for _ in 0..3 {
        expect(&mut engine, request).await;
        engine.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await.unwrap();
        expect(&mut client, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").await;
    }
    expect_end(&mut engine).await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn an_engine_may_answer_before_the_body_is_read() {
    let stage = Stage::new();
    let mut client = stage.client(b"POST /build HTTP/1.1\r\nContent-Length: 99\r\n\r\nhalf").await;
    let mut engine = stage.engine().await;

    engine.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    drop(engine);

    expect(&mut client, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}").await;
    expect_end(&mut client).await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_by_the_engine() {
    let stage = Stage::new();
    let mut client = stage.client(b"POST /build HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    let mut engine = stage.engine().await;
    expect(&mut engine, "POST /build HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    engine.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    expect(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;

    client.write_all(b"body").await.unwrap();

    expect(&mut engine, "body").await;
    engine.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    expect(&mut client, "HTTP/1.1 204 No Content\r\n\r\n").await;
}

#[tokio::test]
async fn http2_without_an_upgrade_is_a_stream() {
    let stage = Stage::new();
    let mut client = stage.client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04").await;
    let mut engine = stage.engine().await;

    expect(&mut engine, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04").await;
    engine.write_all(b"\0\0\0").await.unwrap();
    expect(&mut client, "\0\0\0").await;
}
