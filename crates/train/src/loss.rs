//! Losses of networks that name classes, with their gradients.
//!
//! ```text
//! cross entropy   CE = − Σ t ln p,   t = (1 − ε)·onehot + ε/classes                          (Szegedy et al. 2016)
//! distillation    KD = T² · Σ q ln(q / p_T),   q, p_T the softmax of teacher and student over T   (Hinton et al. 2015)
//! together        (1 − α)·CE + α·KD
//! attention       AT = Σ (a_s − a_t)²,   a = Σ_channels x² over its length                     (Zagoruyko and Komodakis 2017)
//! hint            H  = Σ (x_s − x_t)² / Σ x_t²                                                 (Romero et al. 2015, no regressor)
//! ```
//!
//! Attention maps compare what teacher and student look at whatever their numbers of channels, so they serve networks whose features
//! lost some; where both have the same channels, hints compare these themselves, which says much more.
//! Sums run in double precision and in order: the same bits at any number of threads.

/// What a row of logits should become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// ε, spread over all classes.
    pub smoothing: f64,
    /// α, the share of distillation.
    pub distill: f64,
    /// T.
    pub temperature: f64,
}

/// The loss of a row of logits, which its gradient replaces.
pub(crate) fn row(logits: &mut [f32], label: Option<u32>, teacher: Option<&[f32]>, target: Target) -> f64 {
    let (mut loss, mut grad) = (0.0, vec![0.0; logits.len()]);
    let share = if teacher.is_some() { target.distill } else { 0.0 };
    if let Some(label) = label {
        let (p, norm) = softmax(logits, 1.0);
        let even = target.smoothing / logits.len() as f64;
        for (k, (p, z)) in p.iter().zip(logits.iter()).enumerate() {
            let wanted = even + if k == label as usize { 1.0 - target.smoothing } else { 0.0 };
            loss += (1.0 - share) * wanted * (norm - f64::from(*z));
            grad[k] += (1.0 - share) * (p - wanted);
        }
    }
    if let Some(teacher) = teacher {
        let t = target.temperature;
        let ((q, q_norm), (p, p_norm)) = (softmax(teacher, t), softmax(logits, t));
        for (k, (q, p)) in q.iter().zip(&p).enumerate() {
            let gap = (f64::from(teacher[k]) - f64::from(logits[k])) / t - q_norm + p_norm;
            loss += share * t * t * q * gap;
            grad[k] += share * t * (p - q);
        }
    }
    logits.iter_mut().zip(grad).for_each(|(z, g)| *z = g as f32);
    loss
}

/// Probabilities at a temperature, and the logarithm of what they were divided by.
fn softmax(logits: &[f32], temperature: f64) -> (Vec<f64>, f64) {
    let scaled: Vec<f64> = logits.iter().map(|z| f64::from(*z) / temperature).collect();
    let top = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled.iter().map(|z| (z - top).exp()).sum();
    let norm = top + sum.ln();
    (scaled.iter().map(|z| (z - norm).exp()).collect(), norm)
}

/// Attention over the plane of one sample `[channels, plane]`: the map, and its length before it was divided by it.
fn attention(x: &[f32], plane: usize) -> (Vec<f64>, f64) {
    let mut map = vec![0.0; plane];
    for channel in x.chunks_exact(plane) {
        map.iter_mut().zip(channel).for_each(|(a, x)| *a += f64::from(*x) * f64::from(*x));
    }
    let length = map.iter().map(|a| a * a).sum::<f64>().sqrt().max(1e-12);
    map.iter_mut().for_each(|a| *a /= length);
    (map, length)
}

/// The attention loss of one sample against its teacher's; adds `weight` times its gradient.
pub(crate) fn attend(student: &[f32], teacher: &[f32], plane: usize, weight: f64, grad: &mut [f32]) -> f64 {
    let ((own, length), (theirs, _)) = (attention(student, plane), attention(teacher, plane));
    let gap: Vec<f64> = own.iter().zip(&theirs).map(|(a, b)| a - b).collect();
    let along: f64 = own.iter().zip(&gap).map(|(a, d)| a * d).sum();
    let of_map: Vec<f64> = own.iter().zip(&gap).map(|(a, d)| 2.0 * (d - a * along) / length).collect();
    for (x, g) in student.chunks_exact(plane).zip(grad.chunks_exact_mut(plane)) {
        for ((x, g), d) in x.iter().zip(g).zip(&of_map) {
            *g += (weight * 2.0 * f64::from(*x) * d) as f32;
        }
    }
    weight * gap.iter().map(|d| d * d).sum::<f64>()
}

/// The hint loss of one sample against its teacher's; adds `weight` times its gradient.
pub(crate) fn hint(student: &[f32], teacher: &[f32], weight: f64, grad: &mut [f32]) -> f64 {
    let power = teacher.iter().map(|t| f64::from(*t) * f64::from(*t)).sum::<f64>().max(1e-12);
    let mut loss = 0.0;
    for ((s, t), g) in student.iter().zip(teacher).zip(grad) {
        let gap = f64::from(*s) - f64::from(*t);
        loss += gap * gap / power;
        *g += (weight * 2.0 * gap / power) as f32;
    }
    weight * loss
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a gradient with differences of the loss.
    fn check(x: &[f32], grad: &[f32], loss: impl Fn(&[f32]) -> f64) {
        for at in 0..x.len() {
            let shifted = |by: f32| {
                let mut x = x.to_vec();
                x[at] += by;
                (loss(&x), f64::from(x[at]))
            };
            let ((above, right), (below, left)) = (shifted(1e-2), shifted(-1e-2));
            let numeric = (above - below) / (right - left);
            assert!((numeric - f64::from(grad[at])).abs() < 1e-3, "{at}: {} is not {numeric}", grad[at]);
        }
    }

    #[test]
    fn gradients_are_those_of_the_losses() {
        let (logits, teacher) = ([0.5, -1.0, 2.0, 0.25], [1.0, 0.0, -0.5, 0.75]);
        for (label, teacher) in [(Some(1), None), (Some(2), Some(&teacher[..])), (None, Some(&teacher[..]))] {
            let distill = if label.is_some() { 0.75 } else { 1.0 };
            let target = Target { smoothing: 0.1, distill, temperature: 3.0 };
            let mut grad = logits;
            let loss = row(&mut grad, label, teacher, target);
            assert!(loss > 0.0);
            check(&logits, &grad, |z| row(&mut z.to_vec(), label, teacher, target));
        }
        let [student, teacher] =
            [3, 5].map(|k| (0..12).map(|i| ((i * k + 1) % 7) as f32 / 3.0 - 0.9).collect::<Vec<_>>());
        let mut grad = vec![0.0; 12];
        let loss = attend(&student, &teacher, 6, 2.0, &mut grad);
        assert!(loss > 1e-3);
        check(&student, &grad, |x| attend(x, &teacher, 6, 2.0, &mut [0.0; 12]));
        let mut grad = vec![0.0; 12];
        assert!(hint(&student, &teacher, 2.0, &mut grad) > 1e-3);
        check(&student, &grad, |x| hint(x, &teacher, 2.0, &mut [0.0; 12]));
    }

    #[test]
    fn a_student_that_equals_its_teacher_has_nothing_to_learn() {
        let mut logits = [0.5, -1.0, 2.0];
        let loss =
            row(&mut logits, None, Some(&[0.5, -1.0, 2.0]), Target { smoothing: 0.0, distill: 1.0, temperature: 4.0 });
        assert!(loss.abs() < 1e-12 && logits.iter().all(|g| g.abs() < 1e-6));
    }
}
