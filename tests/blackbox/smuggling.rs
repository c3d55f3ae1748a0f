//! Request framing that two parsers could read differently is refused, and nothing of it reaches the
//! origin; what is unambiguous passes whole. Each row is followed by another client's request.
//! Sources: RFC 9112 §6, §7.1, §11.2; RFC 9110 §5.5, §7.6.1.

use crate::support::{Row, row, run_rows};

/// A POST with these fields (each with its line end) and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}")
}

const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn content_length_that_is_not_one_number() {
    let mut rows = Vec::new();
    for value in [
        "5, 5",
        "5,5",
        "5, 6",
        "5,",
        ",5",
        "+5",
        "-5",
        "-0",
        "5 5",
        "0x5",
        "5;",
        "5.0",
        "1e1",
        "five",
        "",
        " ",
        "\"5\"",
        "5\u{a0}",
        "9223372036854775808",
        "18446744073709551611",
        "18446744073709551616",
        "99999999999999999999999",
        "5h",
        "'5'",
        "5_0",
        "(5)",
        "٥",
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        rows.push(row(format!("CL {value:?}"), post(&fields, "hello")).refused(&[400]));
    }
    for (first, second) in [("5", "5"), ("5", "6"), ("0", "5"), ("5", "0"), ("05", "5")] {
        let fields = format!("Content-Length: {first}\r\nContent-Length: {second}\r\n");
        rows.push(row(format!("CL {first} + CL {second}"), post(&fields, "hello")).refused(&[400]));
        let fields = format!("Content-Length: {first}\r\nX: y\r\ncontent-length: {second}\r\n");
        let name = format!("CL {first} + X + cl {second}");
        rows.push(row(name, post(&fields, "hello")).refused(&[400]));
    }
    run_rows(rows);
}

#[test]
fn transfer_encoding_that_is_not_exactly_chunked() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let mut rows = Vec::new();
    for value in [
        "chunked, chunked",
        "chunked,chunked",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, identity",
        "identity, chunked",
        "identity",
        "gzip",
        "deflate",
        "compress",
        "br",
        "x-chunked",
        "xchunked",
        "chunkedx",
        "chunked;",
        "chunked;q=1",
        "chunked; a=b",
        "\"chunked\"",
        "chun ked",
        "chunked,",
        ",chunked",
        ", chunked",
        "chunked ,",
        "",
        "c hunked",
        "chunke",
        "cow",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\u{0}",
        "chunked\u{7f}",
        "'chunked'",
        "chunked/1",
        "trailers",
        "[chunked]",
        "chunKed, gzip",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        rows.push(row(format!("TE {value:?}"), post(&fields, body)).refused(&[400, 501]));
    }
    for (first, second) in [
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "gzip"),
        ("", "chunked"),
        ("chunked", ""),
        ("chunked", "x"),
        ("x", "chunked"),
    ] {
        let fields = format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}\r\n");
        let name = format!("TE {first:?} + TE {second:?}");
        rows.push(row(name, post(&fields, body)).refused(&[400, 501]));
    }
    for value in ["gzip", "deflate", "identity", "gzip, chunked"] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        rows.push(row(format!("501 for {value:?}"), post(&fields, body)).refused(&[501]));
    }
    rows.push(
        row("TE in HTTP/1.0", post("Transfer-Encoding: chunked\r\n", body).replace("/1.1", "/1.0"))
            .refused(&[400]),
    );
    run_rows(rows);
}

#[test]
fn length_and_coding_together() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let mut rows = Vec::new();
    for length in ["0", "5", "15", "6", "999", "x"] {
        for coding in ["chunked", "Chunked", "identity", "gzip, chunked", "xchunked", ""] {
            let (cl, te) = (
                format!("Content-Length: {length}\r\n"),
                format!("Transfer-Encoding: {coding}\r\n"),
            );
            let body = format!("{chunks}{SECOND}");
            let name = format!("CL {length} then TE {coding:?}");
            rows.push(row(name, post(&format!("{cl}{te}"), &body)).refused(&[400]));
            let name = format!("TE {coding:?} then CL {length}");
            rows.push(row(name, post(&format!("{te}X: y\r\n{cl}"), &body)).refused(&[400]));
        }
    }
    run_rows(rows);
}

#[test]
fn field_lines_that_hide_framing() {
    let chunks = "0\r\n\r\n";
    let mut rows = Vec::new();
    for field in [
        "Content-Length : 5",
        "Content-Length\t: 5",
        " Content-Length: 5",
        "\tContent-Length: 5",
        "Content-Length:5\r\n , 6",
        "Content_Length: 5",
        "content_length: 5",
        "CONTENT_LENGTH: 5",
        "Content-Length\u{0}: 5",
        "Content-Length: \u{0}5",
        "Content-Length: 5\u{0}",
        "Content-Length: 5\u{b}",
        "Content-Length: \u{b}5",
        "X: y\rContent-Length: 5",
        "X: y\nContent-Length: 5",
        "X: y\r\n Content-Length: 5",
        "X: y\r\n\tContent-Length: 5",
        "X:\r\n y",
        "Content-Length:\r\n 5",
        "Content-Length: 5\r",
        "Content-Length: 5\r\r",
        ": 5",
        "Content-Length",
        "Content-Length 5",
        "Content Length: 5",
        "Content-Length;: 5",
        "Content-Length=: 5",
        "@Content-Length: 5",
        "Content-Length(x): 5",
        "Conténu: 5",
        "\u{7f}Content-Length: 5",
        "\"Content-Length\": 5",
        "Content-Length[]: 5",
        "{}: x",
        "a,b: c",
        "a/b: c",
        "a?: c",
        "<a>: c",
        "a\\: c",
    ] {
        let fields = format!("{field}\r\n");
        rows.push(row(format!("{field:?}"), post(&fields, SECOND)).refused(&[400]));
    }
    for field in [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "transfer_encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding:\r\n\tchunked",
        "Transfer-Encoding: chunked\r",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\u{0}: chunked",
        "Transfer-Encoding: chunked\nX: y",
        "Transfer-Encoding:\u{0}chunked",
        "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding chunked",
        "\nTransfer-Encoding: chunked",
        "\rTransfer-Encoding: chunked",
        "Transfer-Encoding:\nchunked",
        "Transfer-Encoding: chun\u{0}ked",
        "Host_: x\r\nTransfer_Encoding: chunked",
        "Te_: x\r\nTransfer-encoding : chunked",
    ] {
        let fields = format!("{field}\r\n");
        rows.push(row(format!("{field:?}"), post(&fields, chunks)).refused(&[400]));
        let fields = format!("Content-Length: 5\r\n{field}\r\n");
        rows.push(row(format!("CL + {field:?}"), post(&fields, chunks)).refused(&[400]));
    }
    for nominated in
        ["content-length", "Content-Length", "transfer-encoding", "host", "Host, close"]
    {
        let fields = format!("Connection: {nominated}\r\nContent-Length: 5\r\n");
        rows.push(row(format!("nominates {nominated}"), post(&fields, "hello")).refused(&[400]));
    }
    for underscored in ["host", "connection", "upgrade", "te_", "trailer", "keep_alive", "expect"] {
        // Only names that fold onto a framing field are refused; the others are just names.
        let refused = underscored == "keep_alive";
        let fields = format!("{underscored}_x: 1\r\n");
        let name = format!("{underscored}_x");
        rows.push(
            row(name, post(&format!("{fields}Content-Length: 0\r\n"), "")).line("POST /x HTTP/1.1"),
        );
        if refused {
            let fields = format!("{underscored}: 1\r\nContent-Length: 0\r\n");
            rows.push(row(underscored, post(&fields, "")).refused(&[400]));
        }
    }
    run_rows(rows);
}

#[test]
fn line_ends_other_than_crlf() {
    let heads: &[&str] = &[
        "GET / HTTP/1.1\nHost: a.test\n\n",
        "GET / HTTP/1.1\r\nHost: a.test\n\n",
        "GET / HTTP/1.1\r\nHost: a.test\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\n",
        "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\rHost: a.test\r\r",
        "GET / HTTP/1.1\r\nHost: a.test\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\n\rHost: a.test\n\r\n\r",
        "\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /one HTTP/1.1\r\nHost: a.test\r\nX: y\n\nGET /two HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /one HTTP/1.1\nHost: a.test\n\nGET /two HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\n\r\nhello",
        " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ];
    let rows = heads.iter().map(|head| row(head.escape_debug().to_string(), head).refused(&[400]));
    let mut rows: Vec<Row> = rows.collect();
    rows.push(row(
        "one empty line before is skipped",
        "\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ));
    run_rows(rows);
}

#[test]
fn chunks_that_break_the_grammar() {
    let te = "Transfer-Encoding: chunked\r\n";
    let mut rows = Vec::new();
    for body in [
        "\r\nhello\r\n0\r\n\r\n",
        "\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\n\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5\u{0}\r\nhello\r\n0\r\n\r\n",
        "5;\u{0}\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "0000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "8000000000000000\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "five\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\n\n",
        "0\r\nno-colon\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX\u{0}: y\r\n\r\n",
        "0\r\nX: a\u{0}b\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\n\rX: y\r\n\r\n",
    ] {
        let bytes = post(te, &format!("{body}{SECOND}"));
        rows.push(row(format!("{body:?}"), bytes).refused(&[400]));
    }
    run_rows(rows);
}

#[test]
fn chunks_that_are_fine() {
    let te = "Transfer-Encoding: chunked\r\n";
    let mut rows = Vec::new();
    for (body, payload) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("05\r\nhello\r\n00\r\n\r\n", "hello"),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("5;a=b\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a\r\nhello\r\n0;last\r\n\r\n", "hello"),
        ("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5;a=b;c=d\r\nhello\r\n0\r\n\r\n", "hello"),
        ("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("3\r\n0\r\n\r\n0\r\n\r\n", "0\r\n"),
    ] {
        rows.push(
            row(format!("{body:?}"), post(te, body))
                .body(payload)
                .field("transfer-encoding", "chunked"),
        );
    }
    for value in ["chunked", "Chunked", "CHUNKED", " chunked", "chunked ", "\tchunked\t"] {
        let fields = format!("Transfer-Encoding:{value}\r\n");
        rows.push(row(format!("TE {value:?}"), post(&fields, "1\r\nx\r\n0\r\n\r\n")).body("x"));
    }
    let trailers = "5\r\nhello\r\n0\r\nX-Sum: abc\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\
                    Host: evil\r\nAuthorization: x\r\n\r\n";
    rows.push(
        row("trailers, forbidden ones dropped", post(&format!("{te}Trailer: X-Sum\r\n"), trailers))
            .body("hello")
            .trailer("x-sum", "abc")
            .no_trailer("content-length")
            .no_trailer("transfer-encoding")
            .no_trailer("host")
            .no_trailer("authorization"),
    );
    run_rows(rows);
}

#[test]
fn lengths_that_are_fine() {
    let rows = vec![
        row("CL 5", post("Content-Length: 5\r\n", "hello"))
            .body("hello")
            .field("content-length", "5"),
        row("CL 0", post("Content-Length: 0\r\n", "")).body(""),
        row("CL with OWS", post("Content-Length: \t 5 \t\r\n", "hello")).body("hello"),
        row("CL without OWS", post("Content-Length:5\r\n", "hello")).body("hello"),
        row("cl in lower case", post("content-length: 5\r\n", "hello")).body("hello"),
        row(
            "a body that looks like a request",
            post("Content-Length: 46\r\n", &format!("{:46}", SECOND)),
        )
        .body(format!("{SECOND:46}")),
        row("POST without a length has no body", post("", "")).body(""),
        row("GET with a body", "GET /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello")
            .body("hello"),
        row(
            "DELETE with a body",
            "DELETE /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi",
        )
        .body("hi"),
        row("HEAD with a body", "HEAD /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi")
            .method("HEAD")
            .body("hi"),
        row("two requests", format!("{}{}", post("Content-Length: 5\r\n", "hello"), SECOND))
            .requests(2)
            .body("hello"),
        row(
            "three requests of three kinds",
            format!(
                "{SECOND}{}{}",
                post("Content-Length: 5\r\n", "hello"),
                post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n")
            ),
        )
        .requests(3)
        .line("GET /smuggled HTTP/1.1"),
    ];
    run_rows(rows);
}

#[test]
fn versions_and_methods() {
    let mut rows = Vec::new();
    for line in
        ["GET / HTTP/2.0", "GET / HTTP/3.0", "GET / HTTP/1.2", "GET / HTTP/0.9", "GET / HTTP/9.9"]
    {
        let bytes = format!("{line}\r\nHost: a.test\r\n\r\n");
        rows.push(row(line, bytes).refused(&[505, 400]));
    }
    for line in [
        "GET /",
        "GET / ",
        "GET",
        "GET / HTTP",
        "GET / HTTP/",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/.1",
        "GET / HTTP/11",
        "GET / HTTP/1.11",
        "GET / HTTP/01.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1 x",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / Http/1.1",
        "GET / HTTP /1.1",
        "GET / HTTP/1 .1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1\t",
        " / HTTP/1.1",
        "/ HTTP/1.1",
        "HTTP/1.1 200 OK",
        "get / HTTP/1.1",
        "Get / HTTP/1.1",
        "G\u{0}ET / HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET, / HTTP/1.1",
        "1GET / HTTP/1.1",
        "-GET / HTTP/1.1",
        "GET/ HTTP/1.1",
        "GET /\u{0} HTTP/1.1",
        "GÈT / HTTP/1.1",
        "GET / HTTP/1.1\u{0}",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1",
        "GET / HTTP/-1.1",
        "GET / HTTP/1,1",
    ] {
        let bytes = format!("{line}\r\nHost: a.test\r\n\r\n");
        rows.push(row(line.escape_debug().to_string(), bytes).refused(&[400]));
    }
    for method in
        ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "M-SEARCH", "X_Y", "PURGE"]
    {
        let bytes = format!("{method} /m HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        rows.push(row(method, bytes).line(&format!("{method} /m HTTP/1.1")));
    }
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    rows.push(row("HTTP/2 preface", preface).refused(&[400, 505]));
    rows.push(row("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\u{7c}\x03\x03").refused(&[400]));
    run_rows(rows);
}

/// RFC 9931 §8: what follows a refused CONNECT was meant for the tunnel, and is no request.
#[test]
fn connect_is_refused_with_all_that_follows() {
    let connect = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n";
    run_rows(vec![
        row("CONNECT", format!("{connect}\r\n")).own(&[405]).closes(),
        row("and what follows", format!("{connect}\r\n{SECOND}")).own(&[405]).closes(),
        row("kept alive", format!("{connect}Connection: keep-alive\r\n\r\n{SECOND}"))
            .own(&[405])
            .closes(),
        row("with a length", format!("{connect}Content-Length: 5\r\n\r\nhello{SECOND}"))
            .own(&[405])
            .closes(),
        row("TLS behind it", format!("{connect}\r\n\x16\x03\x01\x02")).own(&[405]).closes(),
    ]);
}

/// RFC 9110 §9.3.2: an answer to HEAD never has content, however bad the rest of the request is.
#[test]
fn refused_head_requests_are_answered_without_content() {
    let rows = [
        "HEAD / HTTP/1.1\r\n\r\n",
        "HEAD * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "HEAD / HTTP/2.0\r\nHost: a.test\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 1\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nExpect: x\r\n\r\n",
    ];
    let refused = |bytes: &&str| row(*bytes, bytes).method("HEAD").refused(&[400, 417, 501, 505]);
    run_rows(rows.iter().map(refused).collect());
}
