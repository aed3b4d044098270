/** Requests to an origin server: those that `allow=` names, sent with the operator's fields in place of the program's. */
import { VproxyError } from '../../errors.js';
import { readSecretFile } from '../../system/files/guarded-files.js';
import { joinWithCommas } from '../../util/addresses/comma-options.js';
import { escapeText } from '../../util/escape.js';
import { endToEnd, type Field, formatHead, isEndToEnd, isField, listOf, type RequestHead } from '../egress/head.js';
import { requestFraming } from '../egress/message.js';
import { Refusal } from '../egress/refusal.js';
import {
  framingFields,
  isPersistent,
  type ProxyRequest,
  readHost,
  requireForwardable,
  upgradeFields,
} from '../egress/request.js';
import {
  formatAuthority,
  formatOrigin,
  isPlainPath,
  type OriginEndpoint,
  plainName,
  type SetField,
} from '../forms/origin-form.js';
import { type RequestTarget, readTarget, UnclearTarget } from './request-target.js';

/** Parses the request of a head that `allow=` names. Throws `BadMessage`, or `Refusal` if it does not pass. */
export function parseOriginRequest(head: RequestHead, endpoint: OriginEndpoint, service: string): ProxyRequest {
  const framing = requestFraming(head);
  readHost(head);
  requireForwardable(head);
  const target = readPlainTarget(head);
  if (!isAllowed(head.method, target.path, endpoint)) {
    const option = optionFor(head.method, target.path);
    const wayOut =
      option === null ? '' : `; on the host: add ${option} to -i ${service}:origin:${formatOrigin(endpoint)}`;
    throw new Refusal('denied', `${head.method} ${target.path} is not allowed by service "${service}" on the host`, {
      hint: `no allow= names it${wayOut}`,
    });
  }
  const { host, port } = endpoint;
  return {
    head,
    destination: { host, port, family: 0 },
    originTarget: `${target.sentPath}${target.query}`,
    framing,
    isPersistent: isPersistent(head),
    upgrade: framing.kind === 'none' ? readUpgrade(head, endpoint) : null,
  };
}

function readPlainTarget({ target }: RequestHead): RequestTarget {
  try {
    return readTarget(target);
  } catch (error) {
    if (error instanceof UnclearTarget) throw new Refusal('denied', `not allowed: ${error.message}`);
    throw error;
  }
}

/** The option that would allow the request; null if no option can name it. */
const optionFor = (method: string, path: string): string | null =>
  isPlainPath(path) && !/[*+]/.test(method) ? joinWithCommas([`allow=${method}:${path}`]) : null;

const isAllowed = (method: string, path: string, { allow }: OriginEndpoint): boolean =>
  method.toUpperCase() !== 'CONNECT' &&
  allow.some(
    (one) =>
      (one.methods === null || one.methods.includes(method)) &&
      (one.isBeginning ? path.startsWith(one.path) : path === one.path),
  );

/** The protocol to switch to; null if the request asks for none, or for another than WebSocket, which a server may ignore. */
function readUpgrade({ fields, minor }: RequestHead, { upgrade }: OriginEndpoint): string | null {
  const asked = minor === 1 && listOf(fields, 'connection').includes('upgrade') ? listOf(fields, 'upgrade') : [];
  if (upgrade !== undefined && asked.includes(upgrade)) return upgrade;
  if (!asked.includes('websocket')) return null;
  throw new Refusal('denied', 'not allowed: switching to websocket', {
    hint: 'on the host: add upgrade=websocket to the origin',
  });
}

/** Fields by which a program could name another method, path or caller than those that were judged. */
const OVERRIDES =
  /^(?:forwarded|x-forwarded-.+|x-http-method(?:-override)?|x-method-override|x-original-ur[il]|x-rewrite-url)$/;

/** The head for the origin server. `set`: the operator's fields with their secrets. */
export function formatOriginRequest(request: ProxyRequest, endpoint: OriginEndpoint, set: readonly Field[]): Buffer {
  const { framing, head, originTarget, upgrade = null } = request;
  const own = new Set(['host', ...set.map(({ name }) => plainName(name))]);
  const isKept = (plain: string): boolean => isEndToEnd(plain) && !own.has(plain) && !OVERRIDES.test(plain);
  return formatHead(`${head.method} ${originTarget ?? '/'} HTTP/1.1`, [
    { name: 'Host', value: formatAuthority(endpoint) },
    ...endToEnd(head.fields).filter(({ name }) => isKept(plainName(name))),
    ...set,
    ...framingFields(framing),
    ...(upgrade === null ? [] : upgradeFields(upgrade)),
    { name: 'Via', value: `1.${head.minor} vproxy` },
  ]);
}

/** Limit on a secret, in bytes. */
const MAX_SECRET_BYTES = 8192;

/** Reads the fields with their secrets. Throws `bad-file`, which names the file and shows nothing of it. */
export function readFields(headers: readonly SetField[]): Field[] {
  return headers.map(({ file, name, value }) => {
    if (file === null) return { name, value };
    const secret = readSecretFile(file, MAX_SECRET_BYTES).replace(/\r?\n$/, '');
    if (secret === '' || secret.trim() !== secret || !isField(`${name}: ${value}${secret}`))
      throw new VproxyError('bad-file', `${escapeText(file)}: not one line that can be the value of a header field`);
    return { name, value: `${value}${secret}` };
  });
}
