-- GET 1 MiB: bulk. wrk copies every byte and often becomes the bottleneck itself.
-- wrk -t1 -c16 -d10s -s bench/wrk/1m.lua http://127.0.0.1:8080
wrk.path = "/1m"
