/** The form of what a process hands over follows from the types of its state, and its number has to change with it. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import test from 'ava';
import ts from 'typescript';
import { HANDOVER_FORM } from '../../cli/upgrade/document.js';
import { PROJECT_ROOT } from '../helpers/files.js';

/** With each form: what it consists of. */
const DIGESTS: Readonly<Record<number, string>> = { 4: '4cf69aa65908faf3' };

/** Writes the types that are reached from one: what each consists of, whatever file declares it. */
class TypeWriter {
  /** Of each type with fields a line. */
  readonly lines: string[] = [];
  readonly #names = new Map<ts.Type, string>();
  readonly #checker: ts.TypeChecker;

  constructor(checker: ts.TypeChecker) {
    this.#checker = checker;
  }

  /** The text of a type. One that has fields is a number there. */
  write(type: ts.Type): string {
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
    const parts = checker.getTypeArguments(type as ts.TypeReference).map((one) => this.write(one));
    return `${isTuple ? 'Tuple' : type.symbol.name}<${parts.join(', ')}>`;
  }

  #writeFields(type: ts.Type): string {
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

/** Whether it is a class or an interface of TypeScript or Node, such as Buffer: what that consists of is not decided here. */
function isForeign(type: ts.Type): boolean {
  if (type.isIntersection()) return false;
  const { symbol } = type;
  const isNamed = (symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface)) !== 0;
  return isNamed && (symbol.declarations ?? []).every((one) => one.getSourceFile().isDeclarationFile);
}

/** What the document consists of, a line for each type. */
function form(): string[] {
  const path = join(PROJECT_ROOT, 'cli/upgrade/document.ts');
  const config = ts.readConfigFile(join(PROJECT_ROOT, 'tsconfig.json'), (name) => ts.sys.readFile(name));
  const { options } = ts.parseJsonConfigFileContent({ ...config.config, files: [path] }, ts.sys, PROJECT_ROOT);
  const program = ts.createProgram([path], { ...options, incremental: false, noEmit: true });
  const checker = program.getTypeChecker();
  const file = program.getSourceFile(path);
  const module = file && checker.getSymbolAtLocation(file);
  const symbol = module && checker.getExportsOfModule(module).find(({ name }) => name === 'HandoverDocument');
  if (symbol === undefined) throw new Error(`${path} has no HandoverDocument`);
  const writer = new TypeWriter(checker);
  writer.write(checker.getDeclaredTypeOfSymbol(symbol));
  return writer.lines;
}

test('the number of the form belongs to the form', (t) => {
  const lines = form();
  t.true(lines.length > 40, `only ${lines.length} types`);
  // Of a session, of one of its streams, and of a connection.
  for (const field of ['receivedChunks: number', 'smallFrames: number', 'takenBytes: number'])
    t.true(
      lines.some((line) => line.includes(field)),
      field,
    );
  const digest = createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16);
  t.is(
    digest,
    DIGESTS[HANDOVER_FORM] ?? '',
    'what is handed over has changed: give HANDOVER_FORM the next number, and this table its digest',
  );
});
