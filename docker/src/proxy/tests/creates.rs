//! What is asked and changed when containers are made and looked at.

use super::*;

#[tokio::test]
async fn a_container_is_bound_before_its_client_knows_it() {
    let stage = Stage::new();
    let mut client = stage.client(&create(r#"{"Image":"a","Big":1e400}"#)).await;
    let mut engine = stage.engine().await;

    let mut request = vec![0; 4096];
    let length = engine.read(&mut request).await.unwrap();

    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    assert!(request.contains(r#"{"Image":"a","Big":1e400,"Hostname":"web""#), "{request}");
    assert!(request.contains(r#""ExtraHosts":["web.weave.local web:10.32.0.5"]"#), "{request}");
    assert_eq!(stage.book.entries(), ["before web.weave.local web"]);
    engine.write_all(created().as_bytes()).await.unwrap();
    expect(&mut client, created()).await;
    assert_eq!(stage.book.entries().last().unwrap(), &format!("after 7 {ID}"));
}

#[tokio::test]
async fn a_client_is_told_beside_the_engines_own_remarks_that_a_name_is_too_long() {
    let stage = Stage::new();
    let request = String::from_utf8(create("{}")).unwrap().replace("name=web", &format!("name={}", "a".repeat(64)));
    let mut client = stage.client(request.as_bytes()).await;
    let mut engine = stage.engine().await;
    message(&mut engine).await;
    engine.write_all(created().as_bytes()).await.unwrap();

    let (head, body) = message(&mut client).await;

    assert!(head.starts_with("HTTP/1.1 201 Created\r\nApi-Version: 1.41\r\n"), "{head}");
    assert_eq!(body["Id"], ID);
    let told = body["Warnings"][0].as_str().unwrap();
    assert!(told.contains("more than 63 octets"), "{told}");
}

#[tokio::test]
async fn what_is_not_created_is_freed_and_the_engines_words_pass() {
    let stage = Stage::new();
    let conflict = "HTTP/1.1 409 Conflict\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n2;e\r\n{}\r\n0\r\n\r\n";
    let mut client = stage.client(&create("{}")).await;
    let mut engine = stage.engine().await;
    message(&mut engine).await;
    engine.write_all(conflict.as_bytes()).await.unwrap();
    expect(&mut client, conflict).await;
    assert_eq!(stage.book.entries().last().unwrap(), "after 7 nothing");

    client.write_all(&create("{}")).await.unwrap();
    message(&mut engine).await;
    drop(engine);

    assert!(refusal(&mut client, "502").await.contains("without an answer"));
    assert_eq!(stage.book.entries().last().unwrap(), "after 7 nothing");
    assert_eq!(stage.book.entries().len(), 4);
}

#[tokio::test]
async fn a_container_that_can_have_no_address_is_not_created() {
    let refused = Book { refusal: Some("no address is left".to_owned()), ..Book::default() };
    let stage = Stage::with(refused, Limits::default());
    let mut client = stage.client(&create("{}")).await;
    assert_eq!(refusal(&mut client, "500").await, "no address is left");

    let mut client = stage.client(&create(r#"{"Env":["WEAVE_CIDR=x"]}"#)).await;
    assert!(refusal(&mut client, "400").await.starts_with("WEAVE_CIDR: `x`"));
    let mut client = stage.client(&create(r#"{"Env":[],"env":[]}"#)).await;
    assert_eq!(refusal(&mut client, "400").await, "`Env` is given twice; give it once");
    assert_eq!(stage.book.entries().len(), 1);
}

#[tokio::test]
async fn a_container_that_is_not_ours_is_created_as_asked() {
    let stage = Stage::new();
    let request = create(r#"{"HostConfig": {"NetworkMode": "host"}}"#);
    let mut client = stage.client(&request).await;
    let mut engine = stage.engine().await;
    expect(&mut engine, &request).await;

    engine.write_all(created().as_bytes()).await.unwrap();

    expect(&mut client, created()).await;
    assert_eq!(stage.book.entries(), Vec::<String>::new());
}

#[tokio::test]
async fn a_create_in_chunks_or_on_demand_gets_a_length() {
    let stage = Stage::new();
    let head = "POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nX: y\r\n\r\n";
    let mut client = stage.client(head.as_bytes()).await;
    expect(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;

    client.write_all(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n").await.unwrap();

    let (head, body) = message(&mut stage.engine().await).await;
    assert!(head.starts_with("POST /containers/create HTTP/1.1\r\nX: y\r\nContent-Length: "), "{head}");
    assert_eq!(body["HostConfig"]["Runtime"], "weave-rs");
}

#[tokio::test]
async fn a_create_that_is_too_long_is_refused_unread() {
    let stage = Stage::with(Book::default(), Limits { create_bytes: 100, ..Limits::default() });
    for head in ["Content-Length: 101\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n65\r\n"] {
        let head = format!("POST /containers/create HTTP/1.1\r\n{head}");
        let mut client = stage.client(&[head.as_bytes(), &[b' '; 101]].concat()).await;
        assert_eq!(refusal(&mut client, "400").await, "the body is longer than 100 octets");
        expect_end(&mut client).await;
    }
}

#[tokio::test]
async fn an_inspection_shows_the_address_if_it_is_to() {
    let policy = Arc::new(Policy { rewrite_inspect: true, ..Policy::default() });
    let stage = Stage::with(Book { policy, ..Book::default() }, Limits::default());
    let request = "GET /containers/web/json HTTP/1.1\r\n\r\n";
    let mut client = stage.client(request.as_bytes()).await;
    let mut engine = stage.engine().await;
    expect(&mut engine, request).await;

    let body = format!(r#"{{"Id":"{ID}","NetworkSettings":{{"IPAddress":"172.17.0.2"}}}}"#);
    let answer =
        format!("HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    engine.write_all(answer.as_bytes()).await.unwrap();

    let (head, body) = message(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nX: y\r\nContent-Length"), "{head}");
    assert_eq!(body["NetworkSettings"]["IPAddress"], "10.32.0.5");
    client.write_all(request.as_bytes()).await.unwrap();
    expect(&mut engine, request).await;
    engine.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    expect(&mut client, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}").await;
}
