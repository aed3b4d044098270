/** Requests of the page to its server. */

/** A request that failed, with what the server, or the process behind it, said. */
export class RequestFailure extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const GONE = 'vproxy web does not answer: it was stopped, or this machine is offline';

/** Sent with whatever changes something; see the guard of the server. */
const ACT = { 'vproxy-web': '1' };

type Values = Readonly<Record<string, string | number | boolean | undefined>>;

export function formatUrl(path: string, query: Values = {}): string {
  const pairs = Object.entries(query).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
  return pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs).toString()}`;
}

/** The URL at which the server passes requests on to a process. */
export const processUrl = (key: string, path: string, query?: Values): string =>
  formatUrl(`/p/${encodeURIComponent(key)}/v1/${path}`, query);

type Init = Omit<RequestInit, 'headers'> & { readonly headers?: Readonly<Record<string, string>> };

/** Sends a request; resolves with its answer if it succeeded. Rejects with a `RequestFailure`. */
export async function send(url: string, init: Init = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, { ...init, headers: { ...(init.method !== undefined && ACT), ...init.headers } });
  } catch (error) {
    if (init.signal?.aborted === true && (error as Error).name !== 'TimeoutError') throw error;
    throw new RequestFailure('gone', GONE);
  }
  if (answer.ok) return answer;
  throw failureOf(answer.status, await answer.text());
}

function failureOf(status: number, text: string): RequestFailure {
  if (status === 401) return new RequestFailure('stranger', text.trim());
  try {
    const { error } = JSON.parse(text) as { error: { code: string; message: string } };
    return new RequestFailure(error.code, error.message);
  } catch {
    return new RequestFailure('internal', text.slice(0, 300));
  }
}

/** Uploads a file; `tell` is told the bytes that were sent. Rejects with a `RequestFailure`. */
export async function putFile(url: string, file: File, tell: (sentBytes: number) => void): Promise<void> {
  // With fetch, nobody knows how much was sent.
  const request = new XMLHttpRequest();
  request.open('PUT', url);
  for (const [name, value] of Object.entries(ACT)) request.setRequestHeader(name, value);
  request.upload.addEventListener('progress', ({ loaded }) => tell(loaded));
  await new Promise((resolve) => {
    request.addEventListener('loadend', resolve);
    request.send(file);
  });
  if (request.status === 0) {
    // The request ends the same if the file is what cannot be read.
    const isReadable = await file
      .slice(0, 1)
      .arrayBuffer()
      .then(Boolean, () => false);
    if (!isReadable) throw new RequestFailure('unreadable', `${file.name}: a folder, or changed since it was chosen`);
    throw new RequestFailure('gone', GONE);
  }
  if (request.status >= 400) throw failureOf(request.status, request.responseText);
}

export async function getJson<T>(url: string, signal?: AbortSignal): Promise<T> {
  return (await (await send(url, signal === undefined ? {} : { signal })).json()) as T;
}

/** Asks a process for a change. */
export async function act<T>(key: string, method: string, path: string, body?: object, query?: Values): Promise<T> {
  const init: Init = {
    method,
    ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
  };
  const text = await (await send(processUrl(key, path, query), init)).text();
  return (text === '' ? null : JSON.parse(text)) as T;
}

/** The JSON values in an answer of lines, as they come. */
export async function* readLines<T>(url: string, signal: AbortSignal): AsyncGenerator<T> {
  for await (const line of readTexts(url, signal)) if (line !== '') yield JSON.parse(line) as T;
}

/** The lines of an answer, as they come. The last is left out if it has no end. */
export async function* readTexts(url: string, signal: AbortSignal): AsyncGenerator<string> {
  const { body } = await send(url, { signal });
  let rest = '';
  for await (const piece of (body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
    // Not of the two together: a long line would be read again with each piece.
    const [first = '', ...lines] = piece.split('\n');
    rest += first;
    for (const line of lines) {
      yield rest;
      rest = line;
    }
  }
}
