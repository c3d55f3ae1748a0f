//! Host and the authority of the target.

use super::*;

#[test]
fn accepted() {
    for (value, host) in [
        ("a", "a"),
        (" a.test ", "a.test"),
        ("a.test:80", "a.test:80"),
        ("a.test:", "a.test"),
        ("A.TEST.", "A.TEST."),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("[::1]", "[::1]"),
        ("[::1]:8080", "[::1]:8080"),
        ("a_b", "a_b"),
        ("\ta\t", "a"),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost:{value}\r\n\r\n");
        assert_eq!(accept(&text).host(text.as_bytes()), Some(host.as_bytes()), "{value}");
    }
    let old = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(accept(old).host(old.as_bytes()), None);
    let old = "GET / HTTP/1.0\r\nhost: b\r\n\r\n";
    assert_eq!(accept(old).host(old.as_bytes()), Some(&b"b"[..]));
}

#[test]
fn invalid() {
    for value in [
        "",
        " ",
        "\t",
        "a b",
        "a,b",
        "a, a",
        "a/b",
        "/",
        "http://a",
        "u@a",
        "@a",
        "a@",
        "a?b",
        "a#b",
        "a\\b",
        "a:80:80",
        "a:x",
        "a:-1",
        "a:65536",
        "a:080080",
        ":80",
        ":",
        ".",
        "[::1",
        "::1",
        "[]",
        "[::1]x",
        "[::g]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "a\"b",
        "<a>",
        "a|b",
        "a{b}",
        "a^b",
        "a`b",
        "a%zz",
        "a%00",
        "a%2fb",
        "a%20b",
        "\u{e9}.test",
        "a:80 b",
        "a:80,b:80",
        "a;,",
        "a\u{a0}",
    ] {
        for version in ["1.0", "1.1"] {
            let text = format!("GET / HTTP/{version}\r\nHost: {value}\r\n\r\n");
            assert_eq!(refuse(text.as_bytes()), HeadError::HostInvalid, "{value:?}");
        }
    }
}

#[test]
fn missing_repeated_and_different() {
    for (text, error) in [
        ("GET / HTTP/1.1\r\n\r\n", HeadError::HostMissing),
        ("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", HeadError::HostMissing),
        ("GET http://a/ HTTP/1.1\r\n\r\n", HeadError::HostMissing),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::HostRepeated),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::HostRepeated),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: a\r\n\r\n", HeadError::HostRepeated),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::HostRepeated),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost:\r\n\r\n", HeadError::HostRepeated),
        ("GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", HeadError::HostInvalid),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", HeadError::ObsFold),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", HeadError::ObsFold),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", HeadError::NominatedFraming),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a/ HTTP/1.0\r\nHost: b\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n", HeadError::HostMismatch),
        ("GET https://a/ HTTP/1.1\r\nHost: a:80\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a/ HTTP/1.1\r\nHost: a.b\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a/ HTTP/1.1\r\nHost: aa\r\n\r\n", HeadError::HostMismatch),
        ("OPTIONS http://a HTTP/1.1\r\nHost: b\r\n\r\n", HeadError::HostMismatch),
        ("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", HeadError::HostInvalid),
    ] {
        let found = refuse(text.as_bytes());
        assert_eq!(found, error, "{text:?}");
        assert_eq!(found.reason().status(), 400);
    }
    for (target, host) in [
        ("http://a/", "A"),
        ("http://a/", "a:80"),
        ("http://a:80/", "a"),
        ("http://a/", "a."),
        ("https://a/", "a:443"),
        ("https://a:443/", "a"),
        ("http://a:/", "a"),
        ("http://a/", "a:"),
    ] {
        accept(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}
