/** Forwards of a group are texts in which `{channel}` stands for the label of each of its channels. */

/** What stands for the label. */
export const PLACEHOLDER = '{channel}';

/** The text of the forward of the channel `label`. */
export function fillTemplate(text: string, label: string): string {
  return text.replaceAll(PLACEHOLDER, label);
}

/** What is looked at to tell whether a name in a forward, such as a service or a host, is valid. */
export type NameSample = (name: string) => string;

/** Of the forward of a channel: the name itself, in which `{channel}` means nothing. */
export const sampleOfName: NameSample = (name) => name;

/** As long as the placeholder, so that a name may be as long as any other, as it is written. */
const SAMPLE_LABEL = 'a'.repeat(PLACEHOLDER.length);

/** Of a template: the name that some channel will have there. */
export const sampleOfTemplate: NameSample = (name) => fillTemplate(name, SAMPLE_LABEL);
