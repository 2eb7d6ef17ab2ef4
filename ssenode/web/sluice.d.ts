/** What an event brings. */
export interface SluiceEvent<T = any> {
  channel: string;
  /** The event's name, null if it has none; "binary" with a Uint8Array as data. */
  event: string | null;
  /** The payload: parsed if it was JSON, else its text. */
  data: T;
  /** Its place in the stream, null if it has none: live only, an initial one, or one that may come again. */
  id: string | null;
}

/** Events of these channels and patterns may be missing: load their state anew. What follows is complete again. */
export interface Gap {
  channels: string[];
  patterns: string[];
  reason: "history-expired" | "stream-recreated" | "unknown-id" | "upstream" | "slow" | "dropped";
  from: string | null;
  to: string | null;
}

/** An answer of the server that was not what was asked for, or why there was none. */
export interface SluiceError extends Error {
  /** HTTP status, undefined if there was no answer. */
  status?: number;
  /** The channel or pattern that may not be read. */
  channel?: string;
}

export interface Status {
  /**
   * idle: nothing is subscribed. connecting: not all that is subscribed comes yet, or not any more.
   * open: all of it comes. closed: for good, by close() or by the error.
   */
  state: "idle" | "connecting" | "open" | "closed";
  transport?: "stream" | "poll";
  clientId?: string;
  /** Name of the node, while open on a stream. */
  node?: string;
  /** Why there is no connection, or none any more. */
  error?: SluiceError;
  /** Milliseconds until the next attempt. */
  retryIn?: number;
}

export interface SluiceOptions {
  /** Address that the nodes are reached at, default: the folder that sluice.js comes from. */
  server?: string | URL;
  /** A JWT, or what gets one; asked again when the one before ends or was refused. */
  token?: string | (() => string | Promise<string>);
  /** 1 to 64 of A-Z a-z 0-9 . _ ~ -, default: made by the node. With a token it has to begin with its subject. */
  clientId?: string;
  /** How many of the last events of each channel come first, default: what the route says. */
  initial?: number;
  /** Where to go on from, for instance the id that came with the page. Such a Sluice shares no connection. */
  lastEventId?: string;
  /** "include" or "same-origin" to be known by a cookie, default "omit". */
  credentials?: RequestCredentials;
  /**
   * Whether tabs share a connection, default true. With credentials the default is false;
   * a string says whose cookie it is: only tabs with the same one share.
   */
  share?: boolean | string;
  /** Seconds without even a heartbeat after which the line is taken for dead, default 75. */
  silence?: number;
  onGap?: (gap: Gap) => void;
  onStatus?: (status: Status) => void;
  /** A channel that may not be read, with the server's reason. The others go on. */
  onError?: (error: SluiceError) => void;
}

export type Listener<T = any> = (event: SluiceEvent<T>) => void;

interface SluiceEventMap {
  gap: CustomEvent<Gap>;
  status: CustomEvent<Status>;
  error: CustomEvent<SluiceError>;
}

/** Events of any number of channels over one connection. It connects when something is subscribed. */
export class Sluice extends EventTarget {
  constructor(options?: SluiceOptions);
  readonly status: Status;
  /** Everything up to here has been given to the listeners; "" at first. */
  readonly lastEventId: string;
  /** Calls the listener with each event of the channel, or with those of a name (null: without one). Returns what ends that. */
  subscribe<T = any>(channel: string, listener: Listener<T>): () => void;
  subscribe<T = any>(channel: string, event: string | null, listener: Listener<T>): () => void;
  /** The same for all channels that match: between colons, * is any one segment, a last > one or more. */
  subscribePattern<T = any>(pattern: string, listener: Listener<T>): () => void;
  subscribePattern<T = any>(pattern: string, event: string | null, listener: Listener<T>): () => void;
  /** Ends it for good. */
  close(): void;
  addEventListener<K extends keyof SluiceEventMap>(type: K, listener: (event: SluiceEventMap[K]) => void, options?: boolean | AddEventListenerOptions): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
}
