/** Forwards of a group: texts in which `{channel}` stands for the label of each of its channels. */

export const PLACEHOLDER = '{channel}';

export function fillTemplate(text: string, label: string): string {
  return text.replaceAll(PLACEHOLDER, label);
}

/** Gives the text by which a name in a forward, such as a service or a host, is validated. */
export type NameSample = (name: string) => string;

/** For a forward of one channel: the name itself; `{channel}` has no meaning there. */
export const sampleOfName: NameSample = (name) => name;

/** As long as the placeholder, so that the length limit applies to the name as written. */
const SAMPLE_LABEL = 'a'.repeat(PLACEHOLDER.length);

/** For a template: the name as it would be for some channel. */
export const sampleOfTemplate: NameSample = (name) => fillTemplate(name, SAMPLE_LABEL);
