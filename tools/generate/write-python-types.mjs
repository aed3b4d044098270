// Writes python/src/vproxy/types.py, the types of answers, from the schemas of lib/status/, with dist/ compiled. With --check it
// only compares.
import { readFileSync, writeFileSync } from 'node:fs';
import { IMPORTED_TYPES, STATUS_TYPES } from '../../dist/lib/status/schemas.js';

const FILE = new URL('../../python/src/vproxy/types.py', import.meta.url);
const WIDTH = 128;
const PYTHON_WORDS = new Set(['from', 'in', 'is', 'class', 'global', 'pass', 'with']);

const HEAD = `"""
The answers of a vproxy process, as plain values. Written by \`\`npm run python-types\`\` from the schemas in lib/status/: change
them there. Durations are in milliseconds, times are ISO 8601 texts in UTC, amounts are in bytes, rates in bytes per second.
Text from a peer is as the peer sent it: escape it before showing it.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, TypedDict, Union
`;

/** The name of the package for a job of the service `exec`. */
const JOB = '\n\nJob = JobStatus\n';

const imported = Object.entries(IMPORTED_TYPES).map(([name, { schema }]) => [schema, name]);
const names = new Map([...Object.entries(STATUS_TYPES).map(([name, schema]) => [schema, name]), ...imported]);
const texts = [];
// Names that `typeOf` adds are visited later in this loop.
for (const [schema, name] of names) {
  texts.push(
    schema.def.type === 'object' ? formatClasses(name, schema) : `\n${name} = ${typeOf(schema, name, true)}\n`,
  );
}
const aliases = texts.filter((text) => !text.includes('class '));
const text = HEAD + aliases.join('') + texts.filter((one) => !aliases.includes(one)).join('') + JOB;
if (!process.argv.includes('--check')) writeFileSync(FILE, text);
else if (readFileSync(FILE, 'utf8') !== text) {
  process.stderr.write('python/src/vproxy/types.py is out of date: npm run python-types\n');
  process.exitCode = 1;
}

/** Optional fields are in a class of their own, since NotRequired needs Python 3.11, and so are the words of Python. */
function formatClasses(name, schema) {
  const fields = Object.entries(schema.def.shape);
  const words = fields.filter(([key]) => PYTHON_WORDS.has(key));
  const optional = fields.filter(([, { def }]) => def.type === 'optional');
  const plain = fields.filter((field) => !words.includes(field) && !optional.includes(field));
  const entries = words.map(([key, field]) => `"${key}": ${typeOf(field, name)}`);
  const base = words.length === 0 ? 'TypedDict' : `_${name}Words`;
  const head = words.length === 0 ? '' : `\n\n${base} = TypedDict("${base}", {${entries.join(', ')}})`;
  if (optional.length === 0) return `${head}${formatClass(name, base, schema.description, plain)}`;
  const required = formatClass(`_${name}`, base, schema.description, plain);
  return `${head}${required}${formatClass(name, `_${name}, total=False`, schema.description, optional)}`;
}

function formatClass(name, bases, description, fields) {
  const lines = fields.map(([key, schema]) => {
    const inner = schema.def.type === 'optional' ? schema.def.innerType : schema;
    const doc = wrap(sentence(schema.description ?? inner.description), '    #: ');
    return `${doc}    ${key}: ${typeOf(inner, `${name.replace(/^_/, '')}${key[0].toUpperCase()}${key.slice(1)}`)}\n`;
  });
  return `\n\nclass ${name}(${bases}):\n    """${sentence(description ?? 'An entry')}"""\n\n${lines.join('') || '    pass\n'}`;
}

function typeOf(schema, owner, isDeclared = false) {
  const name = isDeclared ? undefined : nameOf(schema, owner);
  if (name !== undefined) return name;
  const { def } = schema;
  const inner = (one) => typeOf(one, owner);
  switch (def.type) {
    case 'string':
      return 'str';
    case 'number':
      return schema.format === undefined || schema.format === null ? 'float' : 'int';
    case 'boolean':
      return 'bool';
    case 'null':
      return 'None';
    case 'unknown':
      return 'Any';
    case 'enum':
      return `Literal[${Object.values(def.entries)
        .map((value) => JSON.stringify(value))
        .join(', ')}]`;
    case 'nullable':
      return `Optional[${inner(def.innerType)}]`;
    case 'array':
      return `List[${inner(def.element)}]`;
    case 'record':
      return `Dict[${inner(def.keyType)}, ${inner(def.valueType)}]`;
    case 'union':
      return `Union[${def.options.map(inner).join(', ')}]`;
    default:
      throw new Error(`unknown schema type ${def.type}`);
  }
}

/** Also a copy with its own description has the name of its parent; an object without a name gets that of its field. */
function nameOf(schema, owner) {
  for (let one = schema; one !== undefined; one = one._zod.parent) if (names.has(one)) return names.get(one);
  const name = schema.meta()?.id ?? (schema.def.type === 'object' ? owner : undefined);
  if (name !== undefined) names.set(schema, name);
  return name;
}

function sentence(text) {
  const plain = text.replaceAll('null', 'None').replaceAll('`', '``').replaceAll('\\', '\\\\');
  return /[.!?]$/.test(plain) ? plain : `${plain}.`;
}

function wrap(text, indent) {
  const lines = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && `${indent}${last} ${word}`.length <= WIDTH) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines.map((line) => `${indent}${line}\n`).join('');
}
