//! Choosing windows: sizes, domains, records, and what is refused.

use calib::data::{Choice, DataError, Features, Method, Mix, Pool, Selection, Source, Words, choose};

const VOCAB: usize = 200;

/// A text whose ids come from `first … first + kinds`.
fn source(name: &str, domain: &str, tokens: usize, first: u32, kinds: u32) -> Source {
    let ids = (0..tokens as u32).map(|i| first + (i.wrapping_mul(2_654_435_761) >> 16) % kinds).collect();
    Source { name: name.into(), domain: domain.into(), sha256: String::new(), ids }
}

fn words() -> Words {
    Words::new((0..VOCAB).map(|i| Some(format!("w{i}"))))
}

/// Two novels and a shorter program.
fn pool(bos: Option<u32>) -> Pool {
    let sources = vec![
        source("a", "novels", 1000, 0, 50),
        source("b", "novels", 1009, 20, 60),
        source("c", "code", 320, 100, 90),
    ];
    Pool::new(sources, 16, VOCAB, bos).unwrap()
}

fn select(pool: &Pool, method: Method, mix: Mix, samples: usize, seed: u64) -> Result<Selection, DataError> {
    let states: Vec<Vec<f32>> = (0..pool.len()).map(|w| pool.text(w).iter().map(|id| *id as f32).collect()).collect();
    choose(pool, Choice { method, mix, samples, seed }, Features { words: &words(), states: &states })
}

fn of_code(selection: &Selection) -> usize {
    selection.windows.iter().filter(|w| w.source == 2).count()
}

#[test]
fn windows_follow_each_other_and_never_cross_sources() {
    let plain = pool(None);
    assert_eq!(plain.len(), 62 + 63 + 20);
    let first = select(&plain, Method::First, Mix::Together, 70, 0).unwrap();
    assert_eq!((first.windows[61].source, first.windows[61].first), (0, 61 * 16));
    assert_eq!((first.windows[62].source, first.windows[62].first), (1, 0));
    let with_bos = pool(Some(7));
    let first = select(&with_bos, Method::First, Mix::Together, 70, 0).unwrap();
    assert!(first.windows.iter().all(|w| w.ids.len() == 16 && w.ids[0] == 7));
    assert_eq!(first.windows[1].first, 15);
    assert_eq!(first.windows[0].ids[1..], plain.text(0)[..15]);
}

#[test]
fn every_method_and_mix_gives_what_is_asked_once_each_and_again() {
    for pool in [pool(None), pool(Some(3))] {
        for (method, mix) in Method::ALL.into_iter().flat_map(|m| Mix::ALL.map(|mix| (m, mix))) {
            let selection = select(&pool, method, mix, 20, 1).unwrap();
            let mut places: Vec<_> = selection.windows.iter().map(|w| (w.source, w.first)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), 20, "{method:?} {mix:?}");
            assert_eq!(selection, select(&pool, method, mix, 20, 1).unwrap());
            match mix {
                Mix::Equal => assert_eq!(of_code(&selection), 10, "{method:?}"),
                Mix::Proportional => assert_eq!(of_code(&selection), 3, "{method:?}"),
                Mix::Together | Mix::Diverse => {}
            }
        }
    }
}

#[test]
fn coverage_sees_more_words_than_chance() {
    let pool = pool(None);
    let chosen = select(&pool, Method::Coverage, Mix::Together, 8, 0).unwrap();
    for seed in 0..10 {
        let random = select(&pool, Method::Random, Mix::Together, 8, seed).unwrap();
        assert!(chosen.coverage.words > random.coverage.words);
        assert!(chosen.coverage.rest > random.coverage.rest);
        assert_eq!(chosen.coverage.of, random.coverage.of);
    }
    let all = select(&pool, Method::Coverage, Mix::Together, pool.len(), 0).unwrap();
    assert_eq!((all.coverage.words, all.coverage.rest), (all.coverage.of, 1.0));
}

#[test]
fn what_cannot_be_chosen_says_why() {
    let pool = pool(None);
    let says = |e: DataError| e.to_string();
    let refused = |r: Result<Selection, DataError>| says(r.unwrap_err());
    let few = refused(select(&pool, Method::Random, Mix::Together, 146, 0));
    assert!(few.contains("146 windows of 16 tokens are asked for, the text has 145"), "{few}");
    let few = refused(select(&pool, Method::Random, Mix::Equal, 60, 0));
    assert!(few.contains("`code`: its share is 30 windows, its text has 20"), "{few}");
    let choice = Choice { method: Method::Cluster, mix: Mix::Together, samples: 2, seed: 0 };
    let bare = refused(choose(&pool, choice, Features { words: &words(), states: &[] }));
    assert!(bare.contains("what the model makes"), "{bare}");
    let of = |sources| Pool::new(sources, 16, VOCAB, None).map(drop).map_err(says).unwrap_err();
    assert!(of(vec![]).contains("no text"));
    assert!(of(vec![source("empty.txt", "", 0, 0, 1)]).contains("empty.txt: the text is empty"));
    let strange = of(vec![source("x.txt", "", 40, 199, 2)]);
    assert!(
        strange.contains("x.txt: token") && strange.contains("is 200, the model's vocabulary has 200"),
        "{strange}"
    );
    let short = Pool::new(vec![source("s", "", 15, 0, 9)], 16, VOCAB, None).unwrap();
    assert!(refused(select(&short, Method::First, Mix::Together, 1, 0)).contains("the text has 0"));
}

#[test]
fn a_record_of_another_model_or_a_damaged_one_is_refused() {
    let mut selection = select(&pool(None), Method::Random, Mix::Together, 5, 0).unwrap();
    assert_eq!(selection.ids(VOCAB).unwrap().len(), 5);
    assert!(matches!(selection.ids(20), Err(DataError::Id { vocab: 20, .. })));
    selection.windows[3].ids.pop();
    assert!(matches!(selection.ids(VOCAB), Err(DataError::Ragged { window: 3, expected: 16, got: 15 })));
    selection.windows.clear();
    assert!(matches!(selection.ids(VOCAB), Err(DataError::Empty)));
}
