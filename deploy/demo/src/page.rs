//! What the browser is shown. Pure.

/// An HTTP answer with the message of a producer, or with the reason why there is none.
pub(crate) fn response(message: &Result<String, String>) -> String {
    let (status, heading, text) = match message {
        Ok(text) => ("200 OK", "Chosen data producer message:", text),
        Err(reason) => ("503 Service Unavailable", "No data producer:", reason),
    };
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>weave-rs on Amazon ECS</title>\
         <style>body {{ margin-top: 40px; background: #333; color: white; text-align: center; font-family: sans-serif }}</style>\
         </head><body><h1>{heading}</h1><h2>{}</h2></body></html>\n",
        escaped(text)
    );
    // Whoever loads the page again wants another producer, so it is not to be kept, nor the connection.
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    )
}

/// Text of others within HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_and_not_run() {
        let response = response(&Ok("<script>&".to_owned()));

        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("<h2>&lt;script&gt;&amp;</h2>"), "{response}");
    }

    #[test]
    fn its_length_is_as_it_says_and_its_reason_is_there() {
        let response = response(&Err("ünwell".to_owned()));
        let (head, body) = response.split_once("\r\n\r\n").unwrap();

        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.contains("ünwell"), "{body}");
    }
}
