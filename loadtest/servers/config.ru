# What the Ruby servers run: see app.py.
run(lambda do |env|
  path = env['PATH_INFO']
  sleep(path.delete_prefix('/block/').to_i / 1e6) if path.start_with?('/block/')
  body = path == '/pid' ? Process.pid.to_s : 'hello'
  [200, { 'content-type' => 'text/plain', 'content-length' => body.bytesize.to_s }, [body]]
end)
