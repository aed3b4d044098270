/**
 * The servers that a guest reaches through an egress, as a program: `node egress-origins.js FOLDER`. On all addresses of its
 * network it serves HTTP on port 80 and HTTPS on 443, with `FOLDER/origin.pem` and `.key`, and an echo on port 7.
 *
 *     /-/pattern/BYTES    GET: that much of the pattern of spec/vm/rig/pattern.ts
 *     /-/digest           PUT, POST: the SHA-256 of the body, and its length
 *     /git/…              git-http-backend(1) on FOLDER/git
 *     any other path      a file of FOLDER/sites/HOST
 *
 * It logs each request on stderr: `#CONNECTION http|https METHOD HOST PATH`.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import net, { type AddressInfo, type Socket } from 'node:net';
import { join, normalize } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { patternPieces } from '../vm/rig/pattern.js';

const PATTERN_PATH = /^\/-\/pattern\/(\d+)$/;
const DIGEST_PATH = '/-/digest';
const GIT_PATH = '/git/';

/** Longer than any test takes to read what it was sent. */
const SILENCE_MS = 10 * 60_000;

const [folder = ''] = process.argv.slice(2);
const connections = new WeakMap<Socket, number>();
let connectionCount = 0;

function handle(scheme: string, request: IncomingMessage, response: ServerResponse): void {
  const { socket, method = '', url = '', headers } = request;
  if (!connections.has(socket)) connections.set(socket, (connectionCount += 1));
  const host = (headers.host ?? '').replace(/:\d+$/, '');
  process.stderr.write(`#${connections.get(socket)} ${scheme} ${method} ${host} ${url}\n`);
  answer(host, url, request, response).catch((error: unknown) => {
    // The client has gone, or learns it from the end of the connection.
    process.stderr.write(`failed: ${method} ${host} ${url}: ${String(error)}\n`);
    response.destroy();
  });
}

async function answer(host: string, url: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, bytes] = PATTERN_PATH.exec(url) ?? [];
  if (bytes !== undefined) {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes });
    await pipeline(Readable.from(patternPieces(Number(bytes))), response);
  } else if (url === DIGEST_PATH) await answerDigest(request, response);
  else if (url.startsWith(GIT_PATH)) await answerGit(url, request, response);
  else await answerFile(host, url, response);
}

async function answerDigest(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    hash.update(chunk);
    length += chunk.length;
  }
  response.end(`${hash.digest('hex')} ${length}\n`);
}

async function answerFile(host: string, url: string, response: ServerResponse): Promise<void> {
  const path = normalize(decodeURIComponent(url.replace(/\?.*/, '')));
  const file = join(folder, 'sites', host, path.endsWith('/') ? `${path}index.html` : path);
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) {
    response.writeHead(404, { 'content-type': 'text/plain' }).end(`${host} has no ${path}\n`);
    return;
  }
  const type = file.endsWith('.html') ? 'text/html' : 'application/octet-stream';
  response.writeHead(200, { 'content-type': type, 'content-length': stat.size });
  await pipeline(createReadStream(file), response);
}

async function answerGit(url: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = '', query = ''] = url.split('?');
  const { 'content-type': type = '', 'content-length': length = '', 'content-encoding': coding } = request.headers;
  const child = spawn(join(gitFolder(), 'git-http-backend'), {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...{ PATH: process.env['PATH'], GIT_PROJECT_ROOT: join(folder, 'git'), GIT_HTTP_EXPORT_ALL: '1' },
      ...{ PATH_INFO: path.slice(GIT_PATH.length - 1), QUERY_STRING: query, REQUEST_METHOD: request.method },
      ...{ CONTENT_TYPE: type, CONTENT_LENGTH: length, SERVER_PROTOCOL: 'HTTP/1.1' },
      ...(coding === undefined ? {} : { HTTP_CONTENT_ENCODING: coding }),
    },
  });
  child.stdin.on('error', () => undefined);
  request.pipe(child.stdin);
  const output = Buffer.concat((await child.stdout.toArray()) as Buffer[]);
  const end = output.indexOf('\r\n\r\n');
  if (end === -1) throw new Error('git-http-backend has no answer');
  for (const field of output.subarray(0, end).toString().split('\r\n')) {
    const [, name = '', value = ''] = /^([^:]+): *(.*)$/.exec(field) ?? [];
    if (name.toLowerCase() === 'status') response.statusCode = Number.parseInt(value, 10);
    else response.setHeader(name, value);
  }
  response.end(output.subarray(end + 4));
}

const gitFolder = (): string => execFileSync('git', ['--exec-path'], { encoding: 'utf8' }).trim();

async function listen(server: Server | net.Server, port: number): Promise<void> {
  // Both families, whatever the addresses of the network are.
  await once(server.listen({ port, host: '::' }), 'listening');
  process.stderr.write(`listening on ${(server.address() as AddressInfo).port}\n`);
}

const timeouts = { keepAliveTimeout: SILENCE_MS, requestTimeout: SILENCE_MS };
const certificate = { key: readFileSync(join(folder, 'origin.key')), cert: readFileSync(join(folder, 'origin.pem')) };
const echo = net.createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => undefined).pipe(socket);
});

process.on('SIGTERM', () => process.exit(0));
await listen(
  createServer(timeouts, (request, response) => handle('http', request, response)),
  80,
);
await listen(
  createTlsServer({ ...timeouts, ...certificate }, (request, response) => handle('https', request, response)),
  443,
);
await listen(echo, 7);
process.stderr.write('ready\n');
