// Generates files of types from schemas: an interface for each, with its descriptions as doc comments.

const WIDTH = 120;

/** Generates lib/status/types.ts. `types` and `imported` are the tables at the end of lib/status/schemas.ts. */
export const formatStatusTypes = (types, imported) => formatTypes(STATUS_HEAD, types, imported);

/** Generates lib/control/client/requests.ts. `types` is the table in lib/control/routes/table.ts. */
export const formatRequestTypes = (types) => formatTypes(REQUESTS_HEAD, types, {});

/**
 * Returns `head` and the declarations of `types`, and of the schemas within them that have an id, which is the name. Throws for a
 * field without a description.
 */
function formatTypes(head, types, imported) {
  const names = new Map(
    [...Object.entries(types), ...Object.entries(imported).map(([name, { schema }]) => [name, schema])].map(
      ([name, schema]) => [schema, name],
    ),
  );
  const importLines = Object.entries(imported)
    .sort(([, one], [, other]) => (one.file < other.file ? -1 : 1))
    .map(([name, { file }]) => `import type { ${name} } from '${file}';\n`);
  const declarations = [];
  // Names that `typeOf` adds are visited later in this loop.
  for (const [schema, name] of names) {
    if (name in imported) continue;
    const doc = formatDoc(name, schema.description, '');
    if (schema.def.type !== 'object') {
      declarations.push(`${doc}${formatAlias(name, typeOf(schema, names, '', true))}`);
      continue;
    }
    const [base, fields] = splitBase(schema, Object.entries(types));
    const heritage = base === null ? '' : ` extends ${base}`;
    declarations.push(`${doc}export interface ${name}${heritage} ${formatFields(name, fields, names, '')}\n`);
  }
  return `${head}${importLines.join('')}\n${declarations.join('\n')}`;
}

const STATUS_HEAD = `/**
 * The status of a running process, as plain values that can be written as JSON. Written by \`npm run build\` from
 * \`schemas.ts\`: change it there. Durations are in milliseconds, times are ISO 8601 texts in UTC, amounts are in bytes, rates
 * in bytes per second. Text from a peer is as the peer sent it: escape it before showing it.
 */

`;

const REQUESTS_HEAD = `/**
 * Requests to a running process, as plain values. Written by \`npm run build\` from the schemas in \`routes/\`, and from the
 * table of settings in \`lib/settings/\`: change it there.
 */
`;

/** Returns the type that this one extends, and its own fields. */
function splitBase(schema, types) {
  const fields = Object.entries(schema.def.shape);
  for (const [name, base] of types) {
    if (base === schema || base.def.type !== 'object') continue;
    const inherited = Object.entries(base.def.shape);
    if (!inherited.every(([key, value]) => schema.def.shape[key] === value)) continue;
    return [name, fields.filter(([key]) => !(key in base.def.shape))];
  }
  return [null, fields];
}

function formatAlias(name, type) {
  const line = `export type ${name} = ${type};`;
  return `${isTooLong(line) ? breakUnion(line, '') : line}\n`;
}

/** Whether a line of a declaration is too long; declarations with several lines are already broken. */
const isTooLong = (line) => line.length > WIDTH && !line.includes('\n');

/** Puts each member of a union on its own line. */
const breakUnion = (line, indent) => line.replaceAll(/(?<=[:=]) | \| /g, `\n${indent}  | `);

function formatFields(owner, fields, names, indent) {
  const inner = `${indent}  `;
  const lines = fields.map(([key, schema]) => {
    const isOptional = schema.def.type === 'optional';
    const doc = formatDoc(`${owner}.${key}`, schema.description, inner);
    const line = `${inner}readonly ${key}${isOptional ? '?' : ''}: ${typeOf(schema, names, inner)};`;
    return `${doc}${isTooLong(line) ? breakUnion(line, inner) : line}\n`;
  });
  return `{\n${lines.join('')}${indent}}`;
}

function typeOf(schema, names, indent, isDeclared = false) {
  const name = isDeclared ? undefined : nameOf(schema, names);
  if (name !== undefined) return name;
  const { def } = schema;
  const inner = (one) => typeOf(one, names, indent);
  switch (def.type) {
    case 'string':
    case 'number':
    case 'boolean':
    case 'null':
    case 'unknown':
      return def.type;
    case 'enum':
      return Object.values(def.entries)
        .map((value) => `'${value}'`)
        .join(' | ');
    case 'object':
      return formatFields('', Object.entries(def.shape), names, indent);
    case 'nullable':
      return `${inner(def.innerType)} | null`;
    case 'optional':
      // A request may have a field that is undefined; an answer does not.
      return `${inner(def.innerType)}${schema._zod.traits.has('$ZodExactOptional') ? '' : ' | undefined'}`;
    case 'array':
      return `readonly ${inner(def.element)}[]`;
    case 'record':
      return `Readonly<Record<${inner(def.keyType)}, ${inner(def.valueType)}>>`;
    case 'union':
      return def.options.map(inner).join(' | ');
    default:
      throw new Error(`unknown schema type ${def.type}`);
  }
}

/**
 * Returns the name of a schema, also for a copy with its own description, whose parent is the schema. An id is added to `names`
 * as a name.
 */
function nameOf(schema, names) {
  for (let one = schema; one !== undefined; one = one._zod.parent) if (names.has(one)) return names.get(one);
  const id = schema.meta()?.id;
  if (id !== undefined) names.set(schema, id);
  return id;
}

function formatDoc(owner, description, indent) {
  if (description === undefined) throw new Error(`${owner} has no description`);
  const text = /[.!?]$/.test(description) ? description : `${description}.`;
  const line = `${indent}/** ${text} */`;
  if (line.length <= WIDTH) return `${line}\n`;
  const lines = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && `${indent} * ${last} ${word}`.length <= WIDTH)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return `${indent}/**\n${lines.map((one) => `${indent} * ${one}\n`).join('')}${indent} */\n`;
}
