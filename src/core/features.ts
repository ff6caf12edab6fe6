import { ApiError } from './errors.ts';

/** Refuses with `feature_flag_disabled` when the organization has a feature switched off. */
export function requireFeature(features: ReadonlySet<string>, feature: string): void {
  if (features.has(feature)) return;
  throw new ApiError('feature_flag_disabled', `the feature ${feature} is not enabled`, {
    context: { feature },
  });
}
