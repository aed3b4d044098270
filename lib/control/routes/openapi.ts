/** The OpenAPI 3.1 description of all routes, generated from the table and its schemas. */
import { errorSchema } from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import { BYTES_TYPE, LINES_TYPE, type Route, TAGS } from './route.js';

type Json = Readonly<Record<string, unknown>>;

const INFO = {
  title: 'The control socket of vproxy',
  version: '1',
  description: 'HTTP/1.1 on a unix socket; docs/control.md explains where it is and how to use it.',
  license: { name: 'MIT License', identifier: 'MIT' },
};

const SERVERS = [
  {
    url: 'http://localhost',
    description: 'On the unix socket, as with curl --unix-socket; the name of the host does not matter',
  },
];

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  200: 'Success',
  201: 'Added',
  202: 'Accepted; it has begun',
  204: 'Done',
};

/** The error answers, by status: the name of the component, and what it means. */
const ERRORS: Readonly<Record<number | 'default', readonly [name: string, description: string]>> = {
  400: ['BadRequest', 'The input is not valid; `error.field` names the wrong one, if it is one'],
  403: ['Forbidden', 'Permission denied'],
  404: ['NotFound', 'Not found'],
  409: ['Conflict', 'The address is in use or not available, or something else is at the path'],
  416: ['NoSuchRange', 'The file has no byte of the range'],
  422: ['Unprocessable', 'The configuration is not valid, and nothing was changed; or the command cannot be run'],
  426: ['UpgradeRequired', 'The request does not ask for an upgrade'],
  503: ['Unavailable', 'No session, no such service, or the service cannot be reached now'],
  504: ['TimedOut', 'Timed out'],
  default: ['Error', 'Any other error'],
};

const BYTES = { [BYTES_TYPE]: { schema: { type: 'string', format: 'binary' } } };

/** The whole document, as a JSON value. */
export function describeRoutes(routes: readonly Route[]): Json {
  const schemas: Record<string, unknown> = {};
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const operations = (paths[route.path] ??= {});
    operations[route.method.toLowerCase()] = describeRoute(route, schemas);
  }
  const content = { 'application/json': { schema: toJson(errorSchema, 'output', schemas) } };
  const responses: Record<string, unknown> = {};
  for (const [name, description] of Object.values(ERRORS)) responses[name] = { description, content };
  const document = {
    openapi: '3.1.1',
    info: INFO,
    servers: SERVERS,
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: { responses, schemas },
  };
  // zod's references assume its own document layout.
  return JSON.parse(JSON.stringify(document).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
}

function describeRoute(route: Route, schemas: Record<string, unknown>): Json {
  const { tag, operation, summary, params, query, body, takesBytes = false } = route;
  const hasInput = params !== null || query !== null || body !== null;
  const errors = [...(hasInput ? [400] : []), ...route.errors, 'default'] as const;
  return {
    operationId: operation,
    tags: [tag],
    summary,
    parameters: [...describeParameters(route, 'path', schemas), ...describeParameters(route, 'query', schemas)],
    ...(takesBytes && { requestBody: { required: true, content: BYTES } }),
    ...(body !== null && {
      requestBody: {
        required: !body.safeParse({}).success,
        content: { 'application/json': { schema: toJson(body, 'input', schemas) } },
      },
    }),
    responses: {
      ...describeAnswer(route, schemas),
      ...Object.fromEntries(
        errors.map((status) => [status, { $ref: `#/components/responses/${ERRORS[status]?.[0]}` }]),
      ),
    },
  };
}

function describeAnswer(route: Route, schemas: Record<string, unknown>): Json {
  if (route.kind === 'upgrade')
    return { 101: { description: `From here on the connection speaks ${route.protocols.join(' or ')}` } };
  const status = route.kind === 'text' ? 200 : route.status;
  const description = STATUS_TEXTS[status];
  if (route.kind === 'text' && route.contentType === BYTES_TYPE)
    return { 200: { description, content: BYTES }, 206: { description: 'The part', content: BYTES } };
  if (route.kind === 'json' && route.answer === null) return { [status]: { description } };
  const schema = route.answer === null ? { type: 'string' } : toJson(route.answer, 'output', schemas);
  const type = route.kind === 'text' ? route.contentType : 'application/json';
  const lines = route.kind === 'text' &&
    route.lines && { [LINES_TYPE]: { schema: toJson(route.lines, 'output', schemas) } };
  return { [status]: { description, content: { [type]: { schema }, ...lines } } };
}

function describeParameters(route: Route, place: 'path' | 'query', schemas: Record<string, unknown>): Json[] {
  const all = place === 'path' ? route.params : route.query;
  return Object.entries(all?.shape ?? {}).map(([name, value]) => {
    const { description, ...schema } = toJson(value as z.ZodType, 'input', schemas);
    const required = place === 'path' || !(value as z.ZodType).safeParse(undefined).success;
    return { name, in: place, required, ...(description !== undefined && { description }), schema };
  });
}

/** Converts a schema to JSON; puts named schemas into `schemas`. */
function toJson(schema: z.ZodType, io: 'input' | 'output', schemas: Record<string, unknown>): Json {
  // As a property, even the outermost named schema becomes a reference.
  const { properties, $defs = {} } = z.toJSONSchema(z.object({ it: schema }), { io });
  for (const [name, definition] of Object.entries($defs)) schemas[name] = { ...definition, id: undefined };
  return (properties?.['it'] ?? {}) as Json;
}
