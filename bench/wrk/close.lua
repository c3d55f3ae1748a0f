-- GET 100 bytes over a new connection for each request.
-- wrk -t1 -c64 -d10s -s bench/wrk/close.lua http://127.0.0.1:8080
wrk.path = "/s"
wrk.headers["Connection"] = "close"
