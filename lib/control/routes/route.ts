/** A row of the table of routes: the schemas of the request and its answer, and the handler. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type * as z from '../../status/zod.js';
import type { ControlContext } from '../context/context.js';

/** The groups of routes, in the order of the description. */
export const TAGS = {
  channels: 'Channels and their sessions',
  forwards: 'Forwards, and the services and ports that they offer',
  egress: 'What the peers may reach from here',
  streams: 'Streams: open, list, reset',
  machines: 'The machines of the peers',
  commands: 'Commands and jobs in the machines of the peers',
  files: 'Files of the machines of the peers',
  monitoring: 'Status, events and metrics',
  process: 'The process: configuration, log level, upgrade, end',
} as const;

export type Tag = keyof typeof TAGS;

/** The type of lines of JSON. */
export const LINES_TYPE = 'application/x-ndjson';

/** The value of the `Upgrade` header for a WebSocket. */
export const WEB_SOCKET = 'websocket';

/** The type of bytes that mean nothing here. */
export const BYTES_TYPE = 'application/octet-stream';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** A validated request. */
export interface RouteInput<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** For its headers: its body was read, or comes by `bytes`. */
  readonly request: IncomingMessage;
  /** Reads the body of a route with `takesBytes`, at the pace of the handler. */
  readonly bytes: () => AsyncIterable<Buffer>;
  /** Aborted when the client disconnects. */
  readonly signal: AbortSignal;
  /** Runs an action after the answer was sent, or the client has disconnected. */
  readonly afterAnswer: (action: () => void) => void;
  /** Writes the answer synchronously, with status 200: for a process about to exit. */
  readonly answerAtOnce: (value: unknown) => void;
}

interface RouteBase {
  readonly method: Method;
  /** With `{name}` for each parameter. */
  readonly path: string;
  /** Its name in generated clients: the method of `ControlClient`, behind `get`, `list` or `set` where that is a noun. */
  readonly operation: string;
  /** One sentence for the OpenAPI description. */
  readonly summary: string;
  /** Schema of the path parameters, which are strings. */
  readonly params: z.ZodObject | null;
  /** Schema of the query, whose values are strings. */
  readonly query: z.ZodObject | null;
  /** Schema of the body, a JSON object; null if the route takes no body. */
  readonly body: z.ZodObject | null;
  /** The longest body, in bytes. Default 64 KiB. */
  readonly maxBodyBytes?: number;
  /** Whether its body, in place of `body`, is bytes of any number, which the handler reads. Default false. */
  readonly takesBytes?: boolean;
  /** The statuses of errors specific to the route. */
  readonly errors: readonly number[];
}

/** Answers with a value as JSON, or only with a status. */
export interface JsonRoute extends RouteBase {
  readonly kind: 'json';
  readonly status: 200 | 201 | 202 | 204;
  readonly answer: z.ZodType | null;
  handle(context: ControlContext, input: RouteInput<never, never, never>): unknown;
}

/** Writes its answer itself, with status 200, or 206 for a part of it. */
export interface TextRoute extends RouteBase {
  readonly kind: 'text';
  readonly contentType: string;
  /** Schema of the answer or, for lines of JSON, of a line; null for text. */
  readonly answer: z.ZodType | null;
  /** Schema of a line, if the answer to some requests is lines of JSON. */
  readonly lines?: z.ZodType;
  send(context: ControlContext, input: RouteInput<never, never, never>, response: ServerResponse): void | Promise<void>;
}

/** Upgrades its connection, and then owns the socket. */
export interface UpgradeRoute extends RouteBase {
  readonly kind: 'upgrade';
  /** The values of the `Upgrade` header, in lower case. */
  readonly protocols: readonly string[];
  /** Resolves after answering on the socket. If it rejects before that, the caller answers. */
  upgrade(context: ControlContext, input: RouteInput<never, never, never>, socket: Socket): Promise<void>;
}

export type Route = (JsonRoute | TextRoute | UpgradeRoute) & { readonly tag: Tag };

type Schema = z.ZodObject | null;

type Output<S> = S extends z.ZodType ? z.output<S> : unknown;

type Immutable<T> = T extends object ? { readonly [K in keyof T]: Immutable<T[K]> } : T;

/** A schema made from a table of settings knows its fields only at run time. */
type Body<T> = string extends keyof T ? object : Immutable<T>;

/** A client's input for a row: values, sent as text or JSON. */
type Given<P, Q, B> = (P extends z.ZodType ? { readonly params: Immutable<z.output<P>> } : unknown) &
  (Q extends z.ZodType
    ? { readonly query?: { readonly [K in keyof z.output<Q>]?: z.output<Q>[K] | undefined } }
    : unknown) &
  (B extends z.ZodType ? { readonly body: Body<z.input<B>> } : unknown);

/** The types of a row for its clients, by method and path; exists only as a type. */
export interface Contract<Name extends string, P, Q, B, Answer> {
  readonly contract?: { readonly name: Name; readonly given: Given<P, Q, B>; readonly answer: Answer };
}

interface RouteOptions<P extends Schema, Q extends Schema, B extends Schema> {
  readonly summary: string;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly maxBodyBytes?: number;
  readonly takesBytes?: boolean;
  readonly errors?: readonly number[];
}

type RouteName = `${Method} /${string}`;

/**
 * A row that answers with JSON; its handler is typed by its schemas, and its answer's schema by its handler. `request` is the
 * method and the path, which identify the row for clients.
 */
export function jsonRoute<
  Name extends RouteName,
  A,
  P extends Schema = null,
  Q extends Schema = null,
  B extends Schema = null,
>(
  request: Name,
  operation: string,
  options: RouteOptions<P, Q, B> & {
    /** Default 200. */
    readonly status?: JsonRoute['status'];
    readonly answer: z.ZodType<NoInfer<A>> | null;
    handle(context: ControlContext, input: RouteInput<Output<P>, Output<Q>, Output<B>>): A | Promise<A>;
  },
): JsonRoute & Contract<Name, P, Q, B, A> {
  return { ...NOTHING_GIVEN, status: 200, ...options, ...splitName(request), operation, kind: 'json' };
}

/** A row that writes its answer itself. */
export function textRoute<
  Name extends RouteName,
  P extends Schema = null,
  Q extends Schema = null,
  B extends Schema = null,
>(
  request: Name,
  operation: string,
  options: RouteOptions<P, Q, B> & {
    readonly contentType: string;
    readonly answer: z.ZodType | null;
    readonly lines?: z.ZodType;
    send(
      context: ControlContext,
      input: RouteInput<Output<P>, Output<Q>, Output<B>>,
      response: ServerResponse,
    ): void | Promise<void>;
  },
): TextRoute & Contract<Name, P, Q, B, string> {
  return { ...NOTHING_GIVEN, ...options, ...splitName(request), operation, kind: 'text' };
}

/** A row that takes the connection over. */
export function upgradeRoute<Name extends RouteName, Q extends Schema = null>(
  request: Name,
  operation: string,
  options: RouteOptions<null, Q, null> & {
    readonly protocols: readonly string[];
    upgrade(context: ControlContext, input: RouteInput<unknown, Output<Q>, unknown>, socket: Socket): Promise<void>;
  },
): UpgradeRoute & Contract<Name, null, Q, null, never> {
  return { ...NOTHING_GIVEN, ...options, ...splitName(request), operation, kind: 'upgrade' };
}

const NOTHING_GIVEN = { params: null, query: null, body: null, errors: [] } as const;

function splitName(name: RouteName): Pick<Route, 'method' | 'path'> {
  const [method, path] = name.split(' ') as [Method, string];
  return { method, path };
}
