// The text of files of types that are written from schemas: an interface for each, its descriptions as doc comments.

const WIDTH = 120;

/** That of lib/status/types.ts. `types` and `imported` are the tables at the end of lib/status/schemas.ts. */
export const formatStatusTypes = (types, imported) => formatTypes(STATUS_HEAD, types, imported);

/** That of lib/control/client/requests.ts. `types` is the table in lib/control/routes/table.ts. */
export const formatRequestTypes = (types) => formatTypes(REQUESTS_HEAD, types, {});

/**
 * After `head`, the declarations of `types`, and of what is found within them and has an id, which is its name. Throws
 * for a field without a description.
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
  // A name that `typeOf` adds comes later in this same loop.
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
 * What a running process says of itself, as plain values that can be written as JSON. Written by \`npm run build\` from
 * \`schemas.ts\`: change it there. Times are in milliseconds, moments are ISO 8601 texts in UTC, amounts are in bytes, rates
 * in bytes per second. Text from a peer is as the peer sent it: escape it before showing it.
 */

`;

const REQUESTS_HEAD = `/**
 * What is asked of a running process, as plain values. Written by \`npm run build\` from the schemas in \`routes/\`, and from
 * the table of settings in \`lib/settings/\`: change it there.
 */
`;

/** The type whose fields this one has as well, and its own fields. */
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

/** A line of a declaration; what has several lines already is as wide as it should be. */
const isTooLong = (line) => line.length > WIDTH && !line.includes('\n');

/** Each member of the union in a line of its own. */
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
      // A request may have a field without a value; an answer has none.
      return `${inner(def.innerType)}${schema._zod.traits.has('$ZodExactOptional') ? '' : ' | undefined'}`;
    case 'array':
      return `readonly ${inner(def.element)}[]`;
    case 'record':
      return `Readonly<Record<${inner(def.keyType)}, ${inner(def.valueType)}>>`;
    case 'union':
      return def.options.map(inner).join(' | ');
    default:
      throw new Error(`no type is known for a schema of type ${def.type}`);
  }
}

/**
 * The name of a schema, also where it is used with a description of its own: that is a copy with the schema as parent. An
 * id is a name that is added to `names`.
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
