/** Who may ask `vproxy web`: the page that it served, in the browser of somebody who had the link. */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isHost, isLoopback } from '../../lib/util/addresses/host-port.js';

/** The header of requests that change something: a page of another origin cannot send it without being asked first (CORS). */
export const ACT_HEADER = 'vproxy-web';

/** `enter`: the request has the token of the link, and gets the cookie. */
export type Judgement =
  | { readonly kind: 'pass' | 'enter' | 'stranger' }
  | { readonly kind: 'refused'; readonly why: string };

export interface GuardOptions {
  /** Whether it listens on loopback only: then no other name in Host is served (DNS rebinding). */
  readonly isLocal: boolean;
  readonly isEncrypted: boolean;
}

export class Guard {
  /** 256 random bits, in the link and in the cookie. */
  readonly token = randomBytes(32).toString('base64url');
  readonly #options: GuardOptions;
  /** Cookies are not told apart by ports, so their names are. */
  #cookie = 'vproxy-web';

  constructor(options: GuardOptions) {
    this.#options = options;
  }

  set port(port: number) {
    this.#cookie = `vproxy-web-${port}`;
  }

  /** The value of `Set-Cookie`. */
  get cookie(): string {
    const secure = this.#options.isEncrypted ? '; Secure' : '';
    return `${this.#cookie}=${this.token}; Path=/; HttpOnly; SameSite=Strict${secure}`;
  }

  /** `isUpgrade`: the request is one for a WebSocket, which browsers open for any page. */
  judge(request: IncomingMessage, isUpgrade = false): Judgement {
    const { headers, method = 'GET' } = request;
    const { host = '', origin, cookie = '' } = headers;
    if (this.#options.isLocal && !isLocalName(host)) return refused('its Host is not a name of this machine');
    const { pathname, searchParams } = urlOf(request);
    const given = searchParams.get('token');
    // A link may be followed from anywhere; what it opens has no effects.
    if (method === 'GET' && pathname === '/' && given !== null && this.#isToken(given)) return { kind: 'enter' };
    // Other ports of a host are the same site, and get its cookies: those of guests, for example.
    const site = headers['sec-fetch-site'] ?? 'none';
    if (site !== 'same-origin' && site !== 'none') return refused('it comes from a page of another origin');
    const isOwn = origin !== undefined && URL.canParse(origin) && new URL(origin).host === host.toLowerCase();
    if (origin === undefined ? isUpgrade : !isOwn) return refused('it comes from a page of another origin');
    const isRead = method === 'GET' || method === 'HEAD';
    if (!isRead && headers[ACT_HEADER] === undefined) return refused(`it has no ${ACT_HEADER} header`);
    const cookies = cookie.split(/;\s*/).map((pair) => pair.split('=', 2));
    const isKnown = cookies.some(([name, value = '']) => name === this.#cookie && this.#isToken(value));
    return { kind: isKnown ? 'pass' : 'stranger' };
  }

  #isToken(given: string): boolean {
    const [bytes, own] = [Buffer.from(given), Buffer.from(this.token)];
    return bytes.length === own.length && timingSafeEqual(bytes, own);
  }
}

/** Never throws: a target such as `//` is a path here, not a host without a name. */
export const urlOf = ({ url = '/' }: Pick<IncomingMessage, 'url'>): URL =>
  new URL(`http://host${url.startsWith('/') ? '' : '/'}${url}`);

const refused = (why: string): Judgement => ({ kind: 'refused', why });

/** Whether `Host` is an address of loopback, or a name that is resolved to one (RFC 6761, section 6.3). */
function isLocalName(text: string): boolean {
  const [, inBrackets, name = ''] = /^(?:\[([^\]]*)\]|([^:[\]]+))(?::\d*)?$/.exec(text.toLowerCase()) ?? [];
  if (inBrackets !== undefined) return isHost(inBrackets, true) && isLoopback(inBrackets);
  return name === 'localhost' || name.endsWith('.localhost') || (isHost(name, false) && isLoopback(name));
}
