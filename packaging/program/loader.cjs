// The beginning of dist/program/vproxy.cjs. The files beside it contain the parts of the program and of the library, as functions
// that are called when a part is first required. The program reads and compiles each part by itself.
'use strict';
const builtin = process.getBuiltinModule;
const { openSync, readFileSync, readSync } = builtin('node:fs');
const { compileFunction } = builtin('node:vm');

/** Where each part is: the index of its file, offset and length there, and the line; filled in by the build. */
const PARTS = {};

/** The files, which the library loads as modules, so that bundlers find them; filled in by the build. */
const FILES = [];

/** The part that runs a proxy; filled in by the build. */
const PROXY_PART = '';

const isProgram = require.main === module;

/** The loaded parts, including those being loaded. */
const parts = new Map();

/** Open from the start: an update may replace the files before all parts are read. */
const descriptors = isProgram ? FILES.map(({ name }) => openSync(`${__dirname}/${name}`)) : [];

/** The files in memory; null in a command. A proxy lives long, and `cp` overwrites files in place. */
let contents = null;

function requirePart(name) {
  if (!Object.hasOwn(PARTS, name)) return builtin(name) ?? require(name);
  const known = parts.get(name);
  if (known !== undefined) return known.exports;
  const part = { exports: {} };
  parts.set(name, part);
  try {
    const run = isProgram ? compilePart(name) : FILES[PARTS[name][0]].load()[name];
    run(part.exports, requirePart, part);
  } catch (error) {
    parts.delete(name);
    throw error;
  }
  return part.exports;
}

/** Returns the bytes of a part. Throws if its file is from another version. */
function readPart(name) {
  const [file, offset, length] = PARTS[name];
  const bytes = contents?.[file].subarray(offset, offset + length) ?? Buffer.allocUnsafeSlow(length);
  if (contents === null) readSync(descriptors[file], bytes, 0, length, offset);
  if (bytes.indexOf(headOf(name)) === 0 && bytes.indexOf(TAIL, -TAIL.length) !== -1) return bytes;
  throw new Error(`${__dirname}/${FILES[file].name} is from another version than ${__filename}`);
}

const headOf = (name) => `${JSON.stringify(name)}:function(exports,require,module){`;
const TAIL = '\n},\n';

function compilePart(name) {
  if (name === PROXY_PART) contents = descriptors.map((fd) => readFileSync(fd));
  const [file, , length, lineOffset] = PARTS[name];
  const code = readPart(name).latin1Slice(headOf(name).length, length - TAIL.length);
  const path = `${__dirname}/${FILES[file].name}`;
  const names = ['exports', 'require', 'module', '__filename'];
  const run = compileFunction(code, names, { filename: path, lineOffset });
  return (exports, require, module) => run(exports, require, module, path);
}
