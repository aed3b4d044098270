/** The OpenAPI 3.1 description of all routes, generated from the table and its schemas. */
import { errorSchema } from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import type { Method, Route } from './route.js';

type Json = Readonly<Record<string, unknown>>;

const INFO = {
  title: 'The control socket of vproxy',
  version: '1',
  description: 'HTTP/1.1 on a unix socket; docs/control.md explains where it is and how to use it.',
};

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  200: 'Success',
  201: 'Added',
  202: 'Accepted; it has begun',
  204: 'Done',
  403: 'Permission denied',
  404: 'Not found',
  409: 'The address is in use or not available',
  422: 'The configuration is not valid; nothing was changed',
  426: 'The request does not ask for an upgrade',
  503: 'No session, no such service, or the service cannot be reached now',
  504: 'Timed out',
};

/** The whole document, as a JSON value. */
export function describeRoutes(routes: readonly Route[]): Json {
  const schemas: Record<string, unknown> = {};
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const operations = (paths[route.path] ??= {});
    operations[route.method.toLowerCase()] = describeRoute(route, schemas);
  }
  const document = {
    openapi: '3.1.1',
    info: INFO,
    servers: [{ url: 'http://localhost' }],
    paths,
    components: { schemas },
  };
  // zod's references assume its own document layout.
  return JSON.parse(JSON.stringify(document).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
}

/** The name of an operation for code generators: `getChannels`, `deleteStreamsChannelId`. */
function operationName(method: Method, path: string): string {
  const words = path.replace(/^\/v1/, '').match(/[a-z0-9]+/gi) ?? [];
  return method.toLowerCase() + words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('');
}

function describeRoute(route: Route, schemas: Record<string, unknown>): Json {
  const { method, path, summary, body } = route;
  const error = { content: { 'application/json': { schema: toJson(errorSchema, 'output', schemas) } } };
  const errors = route.errors.map((status) => [status, { description: STATUS_TEXTS[status], ...error }]);
  return {
    operationId: operationName(method, path),
    summary,
    parameters: [...describeParameters(route, 'path', schemas), ...describeParameters(route, 'query', schemas)],
    ...(body !== null && {
      requestBody: {
        required: !body.safeParse({}).success,
        content: { 'application/json': { schema: toJson(body, 'input', schemas) } },
      },
    }),
    responses: {
      ...describeAnswer(route, schemas),
      ...Object.fromEntries(errors),
      default: { description: 'Any other error', ...error },
    },
  };
}

function describeAnswer(route: Route, schemas: Record<string, unknown>): Json {
  if (route.kind === 'upgrade') return { 101: { description: `From here on the connection speaks ${route.protocol}` } };
  const status = route.kind === 'text' ? 200 : route.status;
  const description = STATUS_TEXTS[status];
  if (route.kind === 'json' && route.answer === null) return { [status]: { description } };
  const schema = route.answer === null ? { type: 'string' } : toJson(route.answer, 'output', schemas);
  const type = route.kind === 'text' ? route.contentType : 'application/json';
  return { [status]: { description, content: { [type]: { schema } } } };
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
