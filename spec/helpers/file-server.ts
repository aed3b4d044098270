/** Files of a folder over HTTP, as any server of static files gives them. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

const TYPES: Record<string, string> = {
  '.css': 'text/css',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
};

/** A server on loopback, on a port that was free. */
export interface FileServer {
  /** Where the folder is, with a slash at its end. */
  url: string;
  close: () => void;
}

/** Serves `folder` below the path `base`, which begins and ends with a slash. */
export async function serveFiles(folder: string, base: string): Promise<FileServer> {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '', 'http://host').pathname));
    if (!path.startsWith(base)) {
      response.writeHead(404).end();
      return;
    }
    const file = path.endsWith('/') ? `${path}index.html` : path;
    readFile(join(folder, file.slice(base.length))).then(
      (bytes) => response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'text/plain' }).end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${port}${base}`, close };
}
