-- GET 100 bytes: what a request costs at all.
-- wrk -t1 -c64 -d10s -s bench/wrk/small.lua http://127.0.0.1:8080
wrk.path = "/s"
