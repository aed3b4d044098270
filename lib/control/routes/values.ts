/** The schemas of single values in paths, queries and bodies. */
import * as z from '../../status/zod.js';
import { LABEL, LABEL_RULE } from '../../util/labels.js';

/** The label of a channel. */
export const label = () =>
  z
    .string()
    .regex(LABEL, `it is not ${LABEL_RULE}`)
    .meta({ examples: ['vm1'] });

/** The channel that is meant, by its label. */
export const onlyChannel = () =>
  z.string().optional().describe('The label of the channel; not needed where there is one only');

const digits = (form: RegExp, what: string, type: 'integer' | 'number', maximum: number) =>
  z
    .string()
    .regex(form, `it is not ${what}`)
    .transform(Number)
    .pipe(z.number().max(maximum, `it is more than ${maximum}`))
    .meta({ type, minimum: 0, maximum, pattern: undefined });

/** A whole number in a query or a path. */
export const numberText = (maximum: number) => digits(/^\d{1,10}$/, 'a whole number', 'integer', maximum);

/** A number of seconds in a query. */
export const secondsText = (maximum: number) =>
  digits(/^\d{1,10}(\.\d{1,6})?$/, 'a number of seconds', 'number', maximum);

/** Yes or no in a query. */
export const yesOrNoText = () =>
  z
    .enum(['true', 'false'], 'it is not true or false')
    .transform((text) => text === 'true')
    .meta({ type: 'boolean', enum: undefined });

/** How a channel or a forward is removed. */
export const removalQuery = z.strictObject({
  mode: z
    .enum(['drain', 'now'], 'it is not drain or now')
    .default('drain')
    .describe('drain: streams that are open may finish; now: they are reset'),
});
