// SPDX-License-Identifier: MIT
// The mathematics of one number, for host and device. V is float or double, or a SIMD vector of
// them; `on` is bool, or the mask vector that V's comparisons give. Meaning: kspike/reference.py.
#pragma once

#ifdef __CUDACC__
#define KSPIKE_FN __host__ __device__ __forceinline__
#else
#define KSPIKE_FN inline __attribute__((always_inline))
#endif

namespace kspike {

// on ? a : b, for whatever says so lane by lane.
template <class On, class V>
KSPIKE_FN V choose(On on, V a, V b) {
  return on ? a : b;
}

// Clip v to [-t, t].
template <class V>
KSPIKE_FN V clip(V v, V t) {
  const V below = v > t ? t : v;
  return below < -t ? -t : below;
}

// sign(v) max(|v| - t, 0).
template <class V>
KSPIKE_FN V shrink(V v, V t) {
  return v - clip(v, t);
}

// |w| > t: where shrink has slope one.
template <class V>
KSPIKE_FN auto support(V w, V t) {
  return clip(w, t) != w;
}

// z - u = w - 2 clip(w, t), and its derivative.
template <class V>
KSPIKE_FN V reflect(V w, V t) {
  return w - 2 * clip(w, t);
}
template <class V, class On>
KSPIKE_FN V reflect_tangent(V dw, On on) {
  return choose(on, dw, -dw);
}

// w + relax (d - shrink(w, t)) with step = relax d, its derivative, and one step of the reverse
// sweep.
template <class V>
KSPIKE_FN V shrink_step(V w, V step, V t, V relax) {
  return (1 - relax) * w + (relax * clip(w, t) + step);
}
template <class V, class On>
KSPIKE_FN V shrink_step_tangent(V dw, V step, On on, V relax) {
  return choose(on, dw - relax * dw, dw) + step;
}
template <class V, class On>
KSPIKE_FN V shrink_step_adjoint(V g, V step, On on, V relax) {
  return choose(on, (g - relax * g) + step, g - step);
}

// The same with d = D x, and r scaled by rho; the first written out, as in this order the CUDA
// kernels of 2048 and 4096 pixels a row keep to their registers.
template <class V>
KSPIKE_FN V shrink_update(V w, V d, V t, V relax) {
  return (1 - relax) * w + relax * clip(w, t) + relax * d;
}
template <class V, class On>
KSPIKE_FN V shrink_update_tangent(V dw, V d, On on, V relax) {
  return shrink_step_tangent(dw, relax * d, on, relax);
}
template <class V, class On>
KSPIKE_FN V shrink_update_adjoint(V g, V d, On on, V relax, V rho) {
  return shrink_step_adjoint(g, rho * d, on, relax);
}

// Parts that shrink together, a group v, from |v|^2 and 1 / |v|, which need not be right at v = 0:
// clip(v, t) over v, and the support s = shrink(v, t) / |v| over v.
template <class V>
KSPIKE_FN V joint_ball(V squared, V inverse, V t) {
  return squared > t * t ? t * inverse : V{} + 1;
}
template <class V>
KSPIKE_FN V joint_support(V squared, V inverse, V t) {
  return squared > t * t ? inverse - t * inverse * inverse : V{};
}

// The derivative of shrink, S v = length v + weight <s, v> s with length = |s|, weight = (1 - |s|)
// / |s|^2, from |s|^2 and 1 / |s|.
template <class V>
KSPIKE_FN V joint_length(V squared, V inverse) {
  return squared > V{} ? squared * inverse : V{};
}
template <class V>
KSPIKE_FN V joint_weight(V squared, V inverse) {
  return squared > V{} ? inverse * inverse - inverse : V{};
}

// One over the symbol of A*A + rho D*D at a frequency; zero where the symbol vanishes.
template <class V>
KSPIKE_FN V resolvent(V sampled, V symbol, V rho) {
  const V s = sampled + rho * symbol;
  return s > V{} ? (V{} + 1) / s : V{};
}

}  // namespace kspike
