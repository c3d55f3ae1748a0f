-- GET 16 KiB: a page, a JSON document.
-- wrk -t1 -c64 -d10s -s bench/wrk/16k.lua http://127.0.0.1:8080
wrk.path = "/16k"
