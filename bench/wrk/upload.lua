-- POST 1 MiB, answered with 100 bytes. BYTES=16384 in the environment for another size.
-- wrk -t1 -c16 -d10s -s bench/wrk/upload.lua http://127.0.0.1:8080
wrk.path = "/upload"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep("a", tonumber(os.getenv("BYTES") or 1048576))
