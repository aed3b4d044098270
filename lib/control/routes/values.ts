/** Schemas of single values in paths, queries and bodies. */
import { MAX_SIDE } from '../../services/exec/exec-messages.js';
import * as z from '../../status/zod.js';
import { LABEL, LABEL_RULE } from '../../util/labels.js';

export const label = () =>
  z
    .string()
    .regex(LABEL, `must be ${LABEL_RULE}`)
    .meta({ examples: ['vm1'] });

/** The label of the channel to use. */
export const onlyChannel = () =>
  z.string().optional().describe('The label of the channel; optional if there is only one');

const digits = (form: RegExp, what: string, type: 'integer' | 'number', maximum: number) =>
  z
    .string()
    .regex(form, `must be ${what}`)
    .transform(Number)
    .pipe(z.number().max(maximum, `must be at most ${maximum}`))
    .meta({ type, minimum: 0, maximum, pattern: undefined });

/** A whole number in a query or a path. */
export const numberText = (maximum: number) => digits(/^\d{1,16}$/, 'a whole number', 'integer', maximum);

/** A number of seconds in a query. */
export const secondsText = (maximum: number) =>
  digits(/^\d{1,10}(\.\d{1,6})?$/, 'a number of seconds', 'number', maximum);

/** The columns or rows of a terminal, in a body. */
export const side = () => z.int().min(1).max(MAX_SIDE);

/** Yes or no in a query. */
export const yesOrNoText = () =>
  z
    .enum(['true', 'false'], 'must be true or false')
    .transform((text) => text === 'true')
    .meta({ type: 'boolean', enum: undefined });

export const removalQuery = z.strictObject({
  mode: z
    .enum(['drain', 'now'], 'must be drain or now')
    .default('drain')
    .describe('drain: let open streams finish; now: reset them'),
});
