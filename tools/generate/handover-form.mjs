// Derives the form of the state that a process hands to its successor from the types of that state (docs/decisions/0030): it
// changes with every change of what is captured, wherever that is.
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import ts from 'typescript';

/** Returns the text of cli/upgrade/form.ts for these lines. */
export function formatForm(lines) {
  const digest = createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16);
  return `/**
 * The form of the state that a process hands to its successor: processes of different forms do not hand over to each other, and
 * the older one continues. Written by \`npm run build\` from \`HandoverDocument\` and all types in it.
 */
export const HANDOVER_FORM = '${digest}';
`;
}

/** Describes the document, in a line for each type with fields. */
export function describeDocument() {
  const path = resolve('cli/upgrade/document.ts');
  const config = ts.readConfigFile('tsconfig.json', (name) => ts.sys.readFile(name));
  const { options } = ts.parseJsonConfigFileContent({ ...config.config, files: [path] }, ts.sys, '.');
  const program = ts.createProgram([path], { ...options, incremental: false, noEmit: true });
  const checker = program.getTypeChecker();
  const module = checker.getSymbolAtLocation(program.getSourceFile(path));
  const symbol = checker.getExportsOfModule(module).find(({ name }) => name === 'HandoverDocument');
  const writer = new TypeWriter(checker);
  writer.write(checker.getDeclaredTypeOfSymbol(symbol));
  return writer.lines;
}

/** Describes all types reached from one, whatever file declares them. */
class TypeWriter {
  lines = [];
  #names = new Map();
  #checker;

  constructor(checker) {
    this.#checker = checker;
  }

  /** Returns the text of a type; types with fields are numbered. */
  write(type) {
    const checker = this.#checker;
    if (type.isUnion()) {
      const members = type.types.map((one) => this.write(one));
      return members.sort().join(' | ');
    }
    if ((type.flags & (ts.TypeFlags.Object | ts.TypeFlags.Intersection)) === 0 || type.getCallSignatures().length > 0)
      return checker.typeToString(type, undefined, ts.TypeFormatFlags.NoTruncation);
    const isTuple = checker.isTupleType(type);
    if (!isTuple && !isForeign(type)) return this.#writeFields(type);
    if (!isTuple && type.symbol.name === 'Buffer') return 'Buffer';
    const parts = checker.getTypeArguments(type).map((one) => this.write(one));
    return `${isTuple ? 'Tuple' : type.symbol.name}<${parts.join(', ')}>`;
  }

  #writeFields(type) {
    const checker = this.#checker;
    const known = this.#names.get(type);
    if (known !== undefined) return known;
    const name = `#${this.#names.size}`;
    this.#names.set(type, name);
    const fields = type.getProperties().map((field) => {
      const mark = (field.flags & ts.SymbolFlags.Optional) === 0 ? '' : '?';
      return `${field.name}${mark}: ${this.write(checker.getTypeOfSymbol(field))}`;
    });
    const indexes = checker
      .getIndexInfosOfType(type)
      .map((one) => `[${this.write(one.keyType)}]: ${this.write(one.type)}`);
    this.lines.push(`${name} { ${[...fields, ...indexes].sort().join('; ')} }`);
    return name;
  }
}

/** Whether it is a class or an interface of TypeScript or Node, such as Buffer, whose fields are not described. */
function isForeign(type) {
  if (type.isIntersection()) return false;
  const { symbol } = type;
  const isNamed = (symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface)) !== 0;
  return isNamed && (symbol.declarations ?? []).every((one) => one.getSourceFile().isDeclarationFile);
}
