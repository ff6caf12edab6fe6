import { ApiError } from './errors.ts';
import type { Caller } from './http.ts';

/**
 * Refuses with `feature_flag_disabled` when the organization has a feature switched off. Of all its refusals the
 * contract gives only those of payments a code.
 */
export function requireFeature(
  features: ReadonlySet<string>,
  feature: string,
  extra: { code?: 'disabled' } = {},
): void {
  if (features.has(feature)) return;
  const context = { feature };
  throw new ApiError('feature_flag_disabled', `the feature ${feature} is not enabled`, { ...extra, context });
}

/** Hides what only the sandbox has from production environments. */
export function requireStaging(caller: Caller): void {
  if (caller.environment_kind !== 'staging') throw new ApiError('not_found', 'no such route');
}
