// What node's cluster runs: app.js HOST PORT WORKERS rr|none. For the paths, see app.py. A worker that
// dies is replaced, as the example of node's own documentation has it.
const cluster = require('node:cluster');
const http = require('node:http');

const [host, port, workers, policy] = process.argv.slice(2);

// Blocks the event loop, as a calculation would, and uses no CPU.
function block(microseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, microseconds / 1000);
}

if (cluster.isPrimary) {
  cluster.schedulingPolicy = policy === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  for (let started = 0; started < Number(workers); started += 1) cluster.fork();
  cluster.on('exit', () => cluster.fork());
} else {
  http.createServer((request, response) => {
    if (request.url.startsWith('/block/')) block(Number(request.url.slice('/block/'.length)));
    const body = request.url === '/pid' ? String(process.pid) : 'hello';
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length });
    response.end(body);
  }).listen(Number(port), host);
}
