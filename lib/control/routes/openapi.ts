/** The description of all routes as OpenAPI 3.1, made from the table and its schemas. */
import { errorSchema } from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import type { Method, Route } from './route.js';

type Json = Readonly<Record<string, unknown>>;

const INFO = {
  title: 'The control socket of vproxy',
  version: '1',
  description: 'HTTP/1.1 on a unix socket: docs/control.md says where it is, and how it is used.',
};

const STATUS_TEXTS: Readonly<Record<number, string>> = {
  200: 'Here it is',
  201: 'It was added',
  202: 'It has begun',
  204: 'It is done',
  403: 'The permissions do not allow it',
  404: 'It does not exist',
  409: 'The address is taken, or not available',
  422: 'The configuration is not valid; nothing has changed',
  426: 'The request does not ask for an upgrade',
  503: 'No session, no such service, or no way to it now',
  504: 'It took too long',
};

/** The whole document, a value for JSON. */
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
  // zod refers to schemas as they are placed in a document of its own.
  return JSON.parse(JSON.stringify(document).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
}

/** The name of an operation for programs that are made from the description: `getChannels`, `deleteStreamsChannelId`. */
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
      default: { description: 'Anything else that was wrong with the request', ...error },
    },
  };
}

function describeAnswer(route: Route, schemas: Record<string, unknown>): Json {
  if (route.kind === 'upgrade') return { 101: { description: `The connection is a ${route.protocol} from here on` } };
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

/** A schema as JSON; those with a name of their own are put into `schemas`. */
function toJson(schema: z.ZodType, io: 'input' | 'output', schemas: Record<string, unknown>): Json {
  // As a property a schema with a name becomes a reference, also the outermost.
  const { properties, $defs = {} } = z.toJSONSchema(z.object({ it: schema }), { io });
  for (const [name, definition] of Object.entries($defs)) schemas[name] = { ...definition, id: undefined };
  return (properties?.['it'] ?? {}) as Json;
}
