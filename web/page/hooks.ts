/** What views share: values that are asked for again and again, the place in the page, and messages. */
import { createContext } from 'preact';
import { useContext, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { getJson, messageOf, RequestFailure } from './requests.js';

export const LOOK_MS = 1000;

/** Longer than the server waits for a process, in milliseconds: what is shown is older than this, if it does not answer. */
const ANSWER_MS = 20_000;

export interface Polled<T> {
  readonly value: T | null;
  /** Why the last request failed; null if it did not. */
  readonly failure: RequestFailure | null;
  /** Asks now. */
  readonly again: () => void;
}

/** Asks for `url` at once, then `everyMs` after each answer; not while the page is hidden. Null: asks for nothing. */
export function usePolled<T>(url: string | null, everyMs = LOOK_MS): Polled<T> {
  const [state, setState] = useState<{ url: string | null; value: T | null; failure: RequestFailure | null }>({
    url: null,
    value: null,
    failure: null,
  });
  const [round, setRound] = useState(0);
  // Before the first paint: the answer is what is waited for.
  useLayoutEffect(() => {
    if (url === null) return;
    const ending = new AbortController();
    let timer = 0;
    const ask = async (): Promise<void> => {
      clearTimeout(timer);
      if (!document.hidden) {
        try {
          const value = await getJson<T>(url, AbortSignal.any([ending.signal, AbortSignal.timeout(ANSWER_MS)]));
          if (ending.signal.aborted) return;
          setState({ url, value, failure: null });
        } catch (error) {
          if (ending.signal.aborted) return;
          const failure = error instanceof RequestFailure ? error : new RequestFailure('internal', String(error));
          setState((before) => ({ ...before, url, failure }));
        }
      }
      timer = window.setTimeout(() => void ask(), everyMs);
    };
    const wake = (): void => void (document.hidden || ask());
    document.addEventListener('visibilitychange', wake);
    void ask();
    return () => {
      ending.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', wake);
    };
  }, [url, everyMs, round]);
  return { value: state.value, failure: state.failure, again: () => setRound((count) => count + 1) };
}

/** Where in the page one is: the words of the fragment, decoded. */
export function usePlace(): readonly string[] {
  const [place, setPlace] = useState(readPlace);
  useEffect(() => {
    const update = (): void => setPlace(readPlace());
    addEventListener('hashchange', update);
    // It may have changed before.
    update();
    return () => removeEventListener('hashchange', update);
  }, []);
  return place;
}

function readPlace(): string[] {
  const words = location.hash.replace(/^#\/?/, '').split('/');
  try {
    return words.map(decodeURIComponent);
  } catch {
    return [''];
  }
}

/** The fragment that `readPlace` reads. */
export const placeOf = (...words: readonly string[]): string => `#/${words.map(encodeURIComponent).join('/')}`;

/** What the whole page needs to know. */
export interface Surroundings {
  readonly isReadOnly: boolean;
  /** Shows a message for a while; a failure until it is closed. */
  readonly tell: (text: string, isFailure?: boolean) => void;
}

export const Around = createContext<Surroundings>({ isReadOnly: true, tell: () => undefined });

/** Runs an action; tells how it ended. `isBusy` while it runs. */
export function useAction(): readonly [isBusy: boolean, run: (work: () => Promise<string | null>) => void] {
  const { tell } = useContext(Around);
  const [isBusy, setBusy] = useState(false);
  const isMounted = useRef(true);
  useEffect(() => () => void (isMounted.current = false), []);
  const run = (work: () => Promise<string | null>): void => {
    setBusy(true);
    work()
      .then(
        (text) => text === null || tell(text),
        (error: unknown) => tell(messageOf(error), true),
      )
      .finally(() => isMounted.current && setBusy(false));
  };
  return [isBusy, run];
}
