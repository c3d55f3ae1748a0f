//! The keys of routes that are about browsers.

use super::{DAY, Key, Kind, MICROSECOND, Section, key, required};

/// `route.cors`.
pub(in crate::controlplane::config) static CORS: Section = Section {
    path: "route.cors",
    doc: "Which other origins browsers let use the route: see docs/cors.md.",
    keys: &[
        required(
            "origins",
            Kind::Texts("https://app.example.com"),
            "Who may: origins, `https://*.example.com` for all hosts below one, `*` for everybody.",
        )
        .or(&["allow_origins", "allowed_origins", "allow_origin", "origin"]),
        key(
            "allow_headers",
            Kind::Texts("authorization"),
            "",
            "Header fields that requests may have; without it those that a preflight asks for.",
        )
        .or(&["allowed_headers", "headers"]),
        key(
            "expose_headers",
            Kind::Texts("x-request-id"),
            "",
            "Fields of responses that scripts may read; those of gRPC are added where `grpc_web` is \
            on.",
        )
        .or(&["exposed_headers"]),
        key(
            "credentials",
            Kind::Boolean,
            "false",
            "Whether requests may carry cookies and the like. Not with the origin `*`.",
        )
        .or(&["allow_credentials"]),
        key(
            "max_age",
            Kind::Duration(MICROSECOND, DAY, false),
            "",
            "How long a browser may remember the answer to a preflight; what it likes without it.",
        ),
    ],
};

/// The key of `[[route]]`.
pub(super) const ROUTE_CORS: Key = key("cors", Kind::One(&CORS), "", CORS.doc);

/// The same.
pub(super) const ROUTE_GRPC_WEB: Key = key(
    "grpc_web",
    Kind::Boolean,
    "false",
    "Whether calls in gRPC-Web become calls in gRPC: see docs/grpc.md. The upstream has to have \
    `http = \"h2\"`.",
);
