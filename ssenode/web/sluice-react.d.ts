import type { Context } from "react";
import type { Gap, Sluice, SluiceEvent, Status } from "./sluice.js";

/** The Sluice that components below use: `<SluiceContext value={sluice}>`. */
export const SluiceContext: Context<Sluice | null>;

export interface UseSluiceOptions<T = any> {
  /** The channel is a pattern. */
  pattern?: boolean;
  /** Only events of this name, null: those without one. */
  name?: string | null;
  /** Called with each event; the component is then not rendered for them. */
  onEvent?: (event: SluiceEvent<T>) => void;
  /** Called when events of the channel may be missing. */
  onGap?: (gap: Gap) => void;
}

/** Listens to a channel as long as the component is there; null or undefined: to none. */
export function useSluice<T = any>(channel: string | null | undefined, options?: UseSluiceOptions<T>): {
  /** The last one; null with onEvent. */
  event: SluiceEvent<T> | null;
  /** The last one of this channel. */
  gap: Gap | null;
  status: Status;
  sluice: Sluice;
};
