worker_processes {workers}
listen '{host}:{port}'{setting}
