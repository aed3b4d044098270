/** Records, however their bytes are split. */
import test from 'ava';
import fc from 'fast-check';
import { encodeRecord, MAX_RECORD_BYTES, RecordReader } from '../../lib/util/records.js';

/** Kinds from 128 on are handed on in pieces. */
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

test('any records come out as they went in, wherever the bytes are cut', (t) => {
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
      // Pieces have no border but a record between them.
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

test('pieces are handed on before their record is complete, and without a copy', (t) => {
  const { reader, records } = reading();
  const bytes = encodeRecord(200, 'hello');
  reader.push(bytes.subarray(0, 7));
  t.deepEqual(records, [[200, Buffer.from('he').toString('hex')]]);
  t.true(reader.isWithinRecord);
});

test('a length above the bound is refused before any memory is taken for it', (t) => {
  const { reader } = reading();
  const header = encodeRecord(1, '');
  header.writeUInt32BE(MAX_RECORD_BYTES + 1, 1);
  t.throws(() => reader.push(header), { code: 'protocol-error', message: /kind 1 is longer than 1048576 bytes/ });
});
