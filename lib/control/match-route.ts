/** Which row of the table a request is for. */
import { escapeText } from '../util/escape.js';
import { RequestError } from './request-error.js';
import type { Route } from './route.js';

/** A row with the values of the parameters in its path. */
export interface RouteMatch {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

/** Finds the row. Throws `not-found` for a path that there is not, and `bad-argument` with status 405 for another method. */
export function matchRoute(routes: readonly Route[], method: string, path: string): RouteMatch {
  const allowed: string[] = [];
  for (const route of routes) {
    const params = matchPath(route.path, path);
    if (params === null) continue;
    if (route.method === method) return { route, params };
    allowed.push(route.method);
  }
  const shown = escapeText(path, 80);
  if (allowed.length === 0) throw new RequestError('not-found', `there is nothing at ${shown}`);
  throw new RequestError('bad-argument', `${escapeText(method, 16)} is nothing that ${shown} takes`, {
    status: 405,
    headers: { Allow: allowed.join(', ') },
  });
}

function matchPath(template: string, path: string): Record<string, string> | null {
  const wanted = template.split('/');
  const found = path.split('/');
  if (wanted.length !== found.length) return null;
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const text = found[index] ?? '';
    if (!part.startsWith('{')) {
      if (part !== text) return null;
    } else if (text === '') return null;
    else params[part.slice(1, -1)] = decode(text);
  }
  return params;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    const message = `"${escapeText(text, 80)}" in the path is not percent-encoded UTF-8`;
    throw new RequestError('bad-argument', message, { cause });
  }
}
