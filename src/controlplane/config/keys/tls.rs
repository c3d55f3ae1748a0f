//! The keys of TLS.

use super::{DAY, Kind, MICROSECOND, Section, key, required};

/// `[listener.tls]`.
pub(in crate::controlplane::config) static TLS: Section = Section {
    path: "listener.tls",
    doc: "TLS on a listener: see docs/tls.md.",
    keys: &[
        required(
            "certificates",
            Kind::Many(&CERTIFICATE),
            "Certificates with their keys. The one for the name a client asks for (SNI) is \
            presented; the first to clients that ask for none, or for no known one. Read again \
            when the files change.",
        )
        .or(&["certificate", "ssl_certificate"]),
        key(
            "min_version",
            Kind::Choice(&["1.2", "1.3"]),
            "1.2",
            "The oldest version of TLS that is spoken.",
        )
        .or(&["ssl_protocols", "min_tls_version"]),
        key(
            "client_ca",
            Kind::Text("certs/clients.pem"),
            "",
            "PEM file with the authorities that certificates of clients are checked with. \
            Without it clients need none.",
        )
        .or(&["ssl_client_certificate", "ca"]),
        key(
            "client_auth",
            Kind::Choice(&["required", "optional", "none"]),
            "required",
            "Whether clients must have a certificate, where there is a `client_ca`.",
        )
        .or(&["ssl_verify_client"]),
        key(
            "handshake_timeout",
            Kind::Duration(MICROSECOND, DAY, false),
            "10s",
            "For the whole handshake; then the connection is closed.",
        ),
        key(
            "session_tickets",
            Kind::Boolean,
            "true",
            "Whether clients may resume sessions. The keys are made by the process, shared by \
            its cores and replaced every six hours.",
        )
        .or(&["ssl_session_tickets"]),
        key(
            "early_data",
            Kind::Boolean,
            "false",
            "Whether clients that resume a session may send their request at once (0-RTT). Only \
            routes with `early_data = true` are served before the handshake has ended.",
        )
        .or(&["ssl_early_data"]),
    ],
};

/// `listener.tls.certificates`.
pub(in crate::controlplane::config) static CERTIFICATE: Section = Section {
    path: "listener.tls.certificates",
    doc: "One certificate. Paths start at the directory of the file they are written in.",
    keys: &[
        required(
            "cert",
            Kind::Text("certs/api.pem"),
            "PEM file: the certificate, and behind it those that signed it, but for the root.",
        )
        .or(&["certificate", "chain"]),
        required("key", Kind::Text("certs/api.key"), "PEM file with its private key.")
            .or(&["private_key"]),
        key(
            "ocsp",
            Kind::Text("certs/api.ocsp"),
            "",
            "DER file with an answer of its OCSP responder, which is stapled.",
        ),
        key(
            "client_ca",
            Kind::Text("certs/partners.pem"),
            "",
            "As in [listener.tls], for the names of this certificate.",
        ),
        key(
            "client_auth",
            Kind::Choice(&["required", "optional", "none"]),
            "",
            "As in [listener.tls], for the names of this certificate.",
        ),
    ],
};

/// `[upstream.tls]`.
pub(in crate::controlplane::config) static UPSTREAM_TLS: Section = Section {
    path: "upstream.tls",
    doc: "TLS with endpoints whose URL begins with https://: see docs/tls.md.",
    keys: &[
        key(
            "ca",
            Kind::Text("certs/internal.pem"),
            "",
            "PEM file with the authorities that certificates of endpoints are checked with; \
            those of the system without it.",
        )
        .or(&["proxy_ssl_trusted_certificate", "roots"]),
        key(
            "sni",
            Kind::Text("users.internal"),
            "",
            "The name that is asked for, and that certificates have to be for; the host of the \
            endpoint's URL without it.",
        )
        .or(&["server_name", "proxy_ssl_name"]),
        key(
            "verify",
            Kind::Boolean,
            "true",
            "Whether certificates of endpoints are checked. `false` makes TLS worthless against \
            anybody on the way.",
        )
        .or(&["proxy_ssl_verify"]),
        key(
            "cert",
            Kind::Text("certs/gateway.pem"),
            "",
            "PEM file with a certificate of our own, for endpoints that ask for one.",
        )
        .or(&["certificate", "proxy_ssl_certificate"]),
        key("key", Kind::Text("certs/gateway.key"), "", "PEM file with its private key.")
            .or(&["proxy_ssl_certificate_key"]),
        key(
            "min_version",
            Kind::Choice(&["1.2", "1.3"]),
            "1.2",
            "The oldest version of TLS that is spoken.",
        ),
    ],
};
