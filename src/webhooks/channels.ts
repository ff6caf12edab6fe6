/** The channels of the alarm that this slice rings and hears; the first is rung by whoever wrote events. */
export const CHANNELS = { events: 'coulomb_events', webhooks: 'coulomb_webhooks' } as const;
