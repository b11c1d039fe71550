//! The best choice of one option for each unit under a budget: a multiple-choice knapsack.
//!
//! What is minimised is a sum of losses, `Σ loss(unit, option)`, under `Σ bytes(unit, option) ≤ budget`. Given a price
//! `λ` per byte, every unit by itself takes the option of least `loss + λ · bytes`; the smallest price whose choice fits
//! the budget is found by bisection, and `loss + λ · (bytes − budget)` of that choice is a bound that no choice beats.
//! Then the room left is spent: single changes, and pairs of changes, as long as one lowers the loss. What stays between
//! the loss and the bound is reported. The other way round, the fewest bytes within a loss are found by bisection over
//! budgets.
//!
//! Source: Everett, *Generalized Lagrange multiplier method* (1963); Kellerer, Pferschy, Pisinger, *Knapsack Problems*
//! (2004), chapter 11.

/// One way to encode a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// What it takes.
    pub bytes: u64,
    /// What it costs, finite.
    pub loss: f64,
}

/// A choice for every unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The chosen option of every unit.
    pub chosen: Vec<usize>,
    /// Bytes together.
    pub bytes: u64,
    /// Loss together.
    pub loss: f64,
    /// No choice that fits has a smaller loss.
    pub bound: f64,
    /// The price of a byte, in loss, from which the exchange began.
    pub price: f64,
}

/// Chooses; `Err` has the smallest bytes that are possible, where even those are more than the budget. Units without
/// options are an error of the caller and count for nothing.
pub fn within(units: &[Vec<Choice>], budget: u64) -> Result<Allocation, u64> {
    let smallest = units.iter().filter_map(|u| u.iter().map(|c| c.bytes).min()).sum();
    if smallest > budget {
        return Err(smallest);
    }
    let (mut low, mut high) = (0.0, first_price(units, budget));
    let mut bound = dual(units, high, budget).max(dual(units, low, budget));
    if bytes(units, &priced(units, low)) <= budget {
        high = low;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        bound = bound.max(dual(units, middle, budget));
        match bytes(units, &priced(units, middle)) <= budget {
            true => high = middle,
            false => low = middle,
        }
    }
    let mut chosen = priced(units, high);
    while exchange(units, budget, &mut chosen) {}
    let (bytes, loss) = (bytes(units, &chosen), loss(units, &chosen));
    Ok(Allocation { chosen, bytes, loss, bound: bound.min(loss), price: high })
}

/// Chooses the fewest bytes, as far as budgets tell them, whose loss is at most `most`; `Err` has the least loss that is
/// possible, where even that is more.
pub fn least(units: &[Vec<Choice>], most: f64) -> Result<Allocation, f64> {
    let extreme = |pick: fn(&[Choice]) -> Option<&Choice>| units.iter().filter_map(|u| pick(u).copied()).collect();
    let best: Vec<Choice> = extreme(|u| u.iter().min_by(|a, b| a.loss.total_cmp(&b.loss).then(a.bytes.cmp(&b.bytes))));
    let smallest: Vec<Choice> = extreme(|u| u.iter().min_by_key(|c| c.bytes));
    let possible = best.iter().map(|c| c.loss).sum();
    let (mut low, mut high) = (smallest.iter().map(|c| c.bytes).sum(), best.iter().map(|c| c.bytes).sum::<u64>());
    if possible > most {
        return Err(possible);
    }
    let keeps = |budget| within(units, budget).ok().filter(|found| found.loss <= most);
    let mut found = keeps(high).ok_or(possible)?;
    while low < high {
        let middle = low + (high - low) / 2;
        match keeps(middle) {
            Some(better) => (found, high) = (better, middle),
            None => low = middle + 1,
        }
    }
    Ok(found)
}

/// A price at which the choice fits: bytes are then dearer than any loss.
fn first_price(units: &[Vec<Choice>], budget: u64) -> f64 {
    let mut price = 1e-12;
    while bytes(units, &priced(units, price)) > budget && price < 1e300 {
        price *= 4.0;
    }
    price
}

/// What every unit takes at a price; of equals, the smaller.
fn priced(units: &[Vec<Choice>], price: f64) -> Vec<usize> {
    let cost = |c: &Choice| c.loss + price * c.bytes as f64;
    let one = |unit: &Vec<Choice>| {
        let best =
            unit.iter().enumerate().min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)).then(a.bytes.cmp(&b.bytes)));
        best.map_or(0, |(i, _)| i)
    };
    units.iter().map(one).collect()
}

/// The value of the Lagrangian at a price: no choice within the budget has a smaller loss.
fn dual(units: &[Vec<Choice>], price: f64, budget: u64) -> f64 {
    let chosen = priced(units, price);
    loss(units, &chosen) + price * (bytes(units, &chosen) as f64 - budget as f64)
}

fn taken<'a>(units: &'a [Vec<Choice>], chosen: &'a [usize]) -> impl Iterator<Item = &'a Choice> {
    units.iter().zip(chosen).filter_map(|(unit, i)| unit.get(*i))
}

fn bytes(units: &[Vec<Choice>], chosen: &[usize]) -> u64 {
    taken(units, chosen).map(|c| c.bytes).sum()
}

fn loss(units: &[Vec<Choice>], chosen: &[usize]) -> f64 {
    taken(units, chosen).map(|c| c.loss).sum()
}

/// A change of one unit: what it takes more, what it loses more.
struct Change {
    unit: usize,
    to: usize,
    bytes: i64,
    loss: f64,
}

/// Makes the change, or the pair of changes, that lowers the loss most; whether there was one.
fn exchange(units: &[Vec<Choice>], budget: u64, chosen: &mut [usize]) -> bool {
    let room = budget as i64 - bytes(units, chosen) as i64;
    let changes: Vec<Change> =
        units.iter().zip(&*chosen).enumerate().flat_map(|(unit, x)| changes(unit, x.0, *x.1)).collect();
    let mut best: (f64, Option<(&Change, Option<&Change>)>) = (-1e-15, None);
    for a in changes.iter().filter(|a| a.loss < 0.0) {
        if a.bytes <= room && a.loss < best.0 {
            best = (a.loss, Some((a, None)));
        }
        for b in changes.iter().filter(|b| b.unit != a.unit && a.bytes + b.bytes <= room) {
            if a.loss + b.loss < best.0 {
                best = (a.loss + b.loss, Some((a, Some(b))));
            }
        }
    }
    let Some((a, b)) = best.1 else { return false };
    std::iter::once(a).chain(b).for_each(|change| chosen[change.unit] = change.to);
    true
}

/// All other options of a unit.
fn changes(unit: usize, options: &[Choice], now: usize) -> Vec<Change> {
    let Some(from) = options.get(now) else { return Vec::new() };
    let change = |(to, c): (usize, &Choice)| Change {
        unit,
        to,
        bytes: c.bytes as i64 - from.bytes as i64,
        loss: c.loss - from.loss,
    };
    options.iter().enumerate().filter(|(to, _)| *to != now).map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small deterministic generator.
    fn instance(seed: u64) -> Vec<Vec<Choice>> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        let mut unit = || (0..4).map(|_| Choice { bytes: 10 + next(90), loss: next(1000) as f64 / 1000.0 }).collect();
        (0..5).map(|_| unit()).collect()
    }

    /// The least loss of all choices that fit.
    fn brute(units: &[Vec<Choice>], budget: u64) -> Option<f64> {
        let all = (0..4usize.pow(units.len() as u32)).map(|n| {
            let chosen: Vec<usize> = (0..units.len()).map(|u| n / 4usize.pow(u as u32) % 4).collect();
            (bytes(units, &chosen), loss(units, &chosen))
        });
        all.filter(|(bytes, _)| *bytes <= budget).map(|(_, loss)| loss).min_by(f64::total_cmp)
    }

    #[test]
    fn the_best_choice_lies_between_the_bound_and_what_is_found() {
        let (mut exact, mut all) = (0, 0);
        for seed in 1..200 {
            let units = instance(seed);
            let budget = 100 + 2 * (seed % 150);
            let best = brute(&units, budget);
            let Ok(found) = within(&units, budget) else {
                assert_eq!(best, None, "{seed}");
                continue;
            };
            let best = best.unwrap();
            assert!(found.bytes <= budget && found.bytes == bytes(&units, &found.chosen), "{seed}");
            assert!(found.bound <= best + 1e-12 && best <= found.loss + 1e-12, "{seed}: {found:?} {best}");
            exact += usize::from(found.loss <= best + 1e-12);
            all += 1;
        }
        assert!(exact * 10 >= all * 8, "{exact} of {all} are exact");
    }

    #[test]
    fn fewest_bytes_keep_a_loss_that_fewer_do_not() {
        for seed in 1..100 {
            let units = instance(seed);
            let most = 0.2 + seed as f64 / 40.0;
            match least(&units, most) {
                Ok(found) => {
                    assert!(found.loss <= most, "{seed}");
                    assert!(within(&units, found.bytes - 1).map_or(true, |fewer| fewer.loss > most), "{seed}");
                }
                Err(possible) => assert!(possible > most && brute(&units, u64::MAX) == Some(possible), "{seed}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_says_the_smallest_that_can() {
        let units = [
            vec![Choice { bytes: 7, loss: 1.0 }, Choice { bytes: 9, loss: 0.0 }],
            vec![Choice { bytes: 5, loss: 0.0 }],
        ];
        assert_eq!(within(&units, 11), Err(12));
        assert_eq!(within(&units, 12).unwrap().chosen, [0, 0]);
        assert_eq!(within(&units, 14).unwrap().chosen, [1, 0]);
    }
}
