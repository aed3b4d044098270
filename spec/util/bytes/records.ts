/** Records, however their bytes are split. */
import test from 'ava';
import fc from 'fast-check';
import {
  decodeJsonRecord,
  encodeRecord,
  encodeRecordHeader,
  MAX_RECORD_BYTES,
  RecordReader,
} from '../../../lib/util/bytes/records.js';

/** Kinds from 128 on are passed on in pieces. */
const PIECES = new Set(Array.from({ length: 128 }, (_, index) => index + 128));

function reading() {
  const records: [number, string][] = [];
  let open: number | null = null;
  const reader = new RecordReader({
    pieces: PIECES,
    onRecord: (kind, payload) => {
      open = null;
      records.push([kind, payload.toString('hex')]);
    },
    onPiece: (kind, bytes) => {
      const last = records.at(-1);
      if (open === kind && last !== undefined) last[1] += bytes.toString('hex');
      else records.push([kind, bytes.toString('hex')]);
      open = kind;
    },
  });
  return { reader, records };
}

test('any records come out unchanged, wherever the bytes are cut', (t) => {
  const record = fc.tuple(fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 40 }));
  fc.assert(
    fc.property(fc.array(record), fc.array(fc.integer({ min: 1, max: 20 })), (given, cuts) => {
      const bytes = Buffer.concat(given.map(([kind, payload]) => encodeRecord(kind, payload)));
      const { reader, records } = reading();
      let at = 0;
      for (const cut of cuts) {
        reader.push(bytes.subarray(at, at + cut));
        at += cut;
      }
      reader.push(bytes.subarray(at));
      t.false(reader.isWithinRecord);
      // Only a record between them separates pieces.
      const expected: [number, string][] = [];
      let open: number | null = null;
      for (const [kind, payload] of given) {
        const hex = Buffer.from(payload).toString('hex');
        const last = expected.at(-1);
        if (!PIECES.has(kind)) expected.push([kind, hex]);
        else if (hex === '') continue;
        else if (open === kind && last !== undefined) last[1] += hex;
        else expected.push([kind, hex]);
        open = PIECES.has(kind) ? kind : null;
      }
      t.deepEqual(records, expected);
    }),
  );
});

test('pieces are passed on before their record is complete, and without a copy', (t) => {
  const { reader, records } = reading();
  const bytes = encodeRecord(200, 'hello');
  reader.push(bytes.subarray(0, 7));
  t.deepEqual(records, [[200, Buffer.from('he').toString('hex')]]);
  t.true(reader.isWithinRecord);
});

test('a length above the limit is refused before memory is allocated', (t) => {
  const { reader } = reading();
  const header = encodeRecord(1, '');
  header.writeUInt32BE(MAX_RECORD_BYTES + 1, 1);
  t.throws(() => reader.push(header), {
    code: 'protocol-error',
    message: /kind 1 too long: 1048577 bytes \(max 1048576\)/,
  });
});

// Serial: it measures the memory of the whole process.
test.serial('a length takes no memory before its bytes come', (t) => {
  const before = process.memoryUsage().arrayBuffers;
  const readers = Array.from({ length: 200 }, () => reading().reader);
  for (const reader of readers) reader.push(encodeRecordHeader(1, MAX_RECORD_BYTES));
  const heldBytes = process.memoryUsage().arrayBuffers - before;
  t.true(heldBytes < 20 * MAX_RECORD_BYTES, `${heldBytes} bytes for 200 headers`);
  t.true(readers.every(({ isWithinRecord }) => isWithinRecord));
});

test('a reader stops where its handler is full, and continues there', (t) => {
  const handled: string[] = [];
  let room = 0;
  const take = (text: string): void => {
    handled.push(text);
    room -= 1;
  };
  const reader = new RecordReader({
    pieces: PIECES,
    onRecord: (kind, payload) => take(`${kind} ${payload.toString()}`),
    onPiece: (kind, bytes) => take(`${kind} ${bytes.toString()}`),
    isFull: () => room === 0,
  });
  const bytes = Buffer.concat([
    encodeRecord(1, 'a'),
    encodeRecord(200, 'piece'),
    encodeRecord(2, ''),
    encodeRecord(3, 'b'),
  ]);
  let at = 0;
  for (const expected of ['1 a', '200 piece', '2 ', '3 b']) {
    t.is(reader.push(bytes.subarray(at)), 0);
    room = 1;
    at += reader.push(bytes.subarray(at));
    t.is(handled.at(-1), expected);
  }
  t.is(at, bytes.length);
  t.is(handled.length, 4);
});

test('a payload is a single JSON object with a bounded number of values, or is refused before parsing', (t) => {
  const decode = (text: string) => (): unknown => decodeJsonRecord(Buffer.from(text), 'it');
  t.deepEqual(decode(' {"a":[1,{"b":2}]}\n')(), { a: [1, { b: 2 }] });
  const noObject = { code: 'protocol-error', message: 'it is not a JSON object' };
  for (const text of ['', ' ', '[]', 'null', '{', '{}{}', '{} x', '{"a":1}]', '[1]\n{}', '{"a":"\n"}', '{a:1}']) {
    t.throws(decode(text), noObject, text);
  }
  const tooMany = { code: 'protocol-error', message: 'it has more than 65536 commas, braces and brackets' };
  for (const value of ['[],', '{},', '1,', '"",']) t.throws(decode(`{"a":[${value.repeat(70_000)}1]}`), tooMany);
  t.throws(decode('{"a":'.repeat(1001)), { code: 'protocol-error', message: 'it is nested deeper than 1000' });
  t.notThrows(decode(`{"a":"${',[{'.repeat(100_000)}"}`));
});
