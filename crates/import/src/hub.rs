//! Models by id (`Qwen/Qwen3-0.6B`) from the Hugging Face Hub, into the cache that every tool shares.
//!
//! Only what is needed to load a model is fetched: configs, tokenizer, and the safetensors weights. Files that are in
//! the cache for the revision's present commit are not fetched again. The environment is respected: `HF_ENDPOINT`
//! (another server), `HF_HOME` (where the cache is), `HF_TOKEN` (for gated models), `HF_HUB_OFFLINE` (the cache only).

use formats::{hf, safetensors};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The branch that models are on.
pub const DEFAULT_REVISION: &str = "main";

const ENDPOINT: &str = "https://huggingface.co";

/// What a model folder may have beside its config and weights.
const OPTIONAL: [&str; 6] = [
    hf::GENERATION_CONFIG,
    hf::TOKENIZER,
    hf::TOKENIZER_CONFIG,
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// Why a model cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HubError {
    #[error("`{id}` is not a model id or a folder; ids look like `organization/name`")]
    Id { id: String },
    #[error("`{revision}` is not a branch, tag or commit")]
    Revision { revision: String },
    #[error("{url}: not found; check the spelling of the model id and the revision `{revision}`")]
    NotFound { url: String, revision: String },
    #[error(
        "{url}: access denied; check the spelling, accept the model's license on its page, and set HF_TOKEN to a token that may read it"
    )]
    Denied { url: String },
    #[error("{url}: has no {file}; only models in safetensors form can be fetched")]
    NoFile { url: String, file: &'static str },
    #[error("{url}: cannot fetch; check the network, or set HF_ENDPOINT to another server")]
    Api { url: String, source: Box<ApiError> },
    #[error("{url}: got {got} of {expected} bytes; try again")]
    Incomplete { url: String, expected: u64, got: u64 },
    #[error(
        "{url}: the server names the commit `{commit}`, which is not one; set HF_ENDPOINT to a server to be trusted"
    )]
    Commit { url: String, commit: String },
    #[error(transparent)]
    Index(#[from] safetensors::Error),
    #[error("{}: cannot use the cache; set HF_HOME to another folder", path.display())]
    Cache { path: PathBuf, source: std::io::Error },
    #[error("`{id}` at `{revision}` is not in the cache {}; unset HF_HUB_OFFLINE to fetch it", cache.display())]
    Offline { id: String, revision: String, cache: PathBuf },
}

/// Told how a download goes. Files come one after the other.
pub trait Progress {
    /// A file of this many bytes begins.
    fn start(&mut self, file: &str, bytes: u64);
    /// More bytes of it have arrived.
    fn advance(&mut self, bytes: u64);
    /// It is complete.
    fn finish(&mut self);
}

/// Tells nobody.
impl Progress for () {
    fn start(&mut self, _file: &str, _bytes: u64) {}
    fn advance(&mut self, _bytes: u64) {}
    fn finish(&mut self) {}
}

/// A server and a cache.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
}

/// Fetches a model from the hub that the environment names; gives its folder.
pub fn fetch(id: &str, revision: &str, progress: &mut dyn Progress) -> Result<PathBuf, HubError> {
    Hub::from_env(|key| std::env::var(key).ok()).fetch(id, revision, progress)
}

/// Whether a text has the form of a model id: two names of letters, digits, `-`, `_` and `.`.
pub fn is_model_id(text: &str) -> bool {
    let name = |s: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !s.is_empty() && s.chars().all(allowed) && !s.starts_with(['.', '-']) && !s.contains("..")
    };
    text.split_once('/').is_some_and(|(organization, model)| name(organization) && name(model))
}

impl Hub {
    /// The hub that these variables name.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Hub {
        let set = |key| variable(key).filter(|v| !v.is_empty());
        let cache = set("HF_HOME").map_or_else(|| Cache::default().path().clone(), |h| PathBuf::from(h).join("hub"));
        Hub {
            endpoint: set("HF_ENDPOINT").as_deref().unwrap_or(ENDPOINT).trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN").or_else(|| Cache::new(cache.clone()).token()),
            offline: set("HF_HUB_OFFLINE").is_some_and(|v| v != "0"),
            cache,
        }
    }

    /// Fetches a model; gives its folder in the cache.
    pub fn fetch(&self, id: &str, revision: &str, progress: &mut dyn Progress) -> Result<PathBuf, HubError> {
        if !is_model_id(id) {
            return Err(HubError::Id { id: id.to_owned() });
        }
        if revision.is_empty() || revision.contains("..") || revision.contains(['\\', '?', '#', ' ']) {
            return Err(HubError::Revision { revision: revision.to_owned() });
        }
        if self.offline { self.cached(id, revision) } else { self.download(id, revision, progress) }
    }

    /// The folder of an earlier fetch.
    fn cached(&self, id: &str, revision: &str) -> Result<PathBuf, HubError> {
        let repo = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        let config = Cache::new(self.cache.clone()).repo(repo).get(hf::CONFIG);
        let folder = config.as_deref().and_then(Path::parent).map(Path::to_owned);
        let (id, revision) = (id.to_owned(), revision.to_owned());
        folder.ok_or_else(|| HubError::Offline { id, revision, cache: self.cache.clone() })
    }

    fn download(&self, id: &str, revision: &str, progress: &mut dyn Progress) -> Result<PathBuf, HubError> {
        let url = format!("{}/{id}", self.endpoint);
        let api = self.api().map_err(|e| from_api(&url, revision, e))?;
        let branch = Repo::with_revision(id.to_owned(), RepoType::Model, revision.to_owned());
        let info = api.repo(branch.clone()).info().map_err(|e| from_api(&url, revision, e))?;
        if info.sha.is_empty() || !info.sha.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(HubError::Commit { url, commit: info.sha });
        }
        let at_commit = Repo::with_revision(id.to_owned(), RepoType::Model, info.sha.clone());
        let mut model = Model {
            url,
            cache: Cache::new(self.cache.clone()).repo(at_commit.clone()),
            api: api.repo(at_commit),
            files: info.siblings.into_iter().map(|s| s.rfilename).collect(),
            progress,
        };
        let folder = model.get_all()?;
        let remember = Cache::new(self.cache.clone()).repo(branch).create_ref(&info.sha);
        remember.map_err(|source| HubError::Cache { path: self.cache.clone(), source })?;
        Ok(folder)
    }

    fn api(&self) -> Result<Api, ApiError> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_user_agent("tinier", env!("CARGO_PKG_VERSION"))
            .build()
    }
}

/// One model at one commit.
struct Model<'a> {
    url: String,
    api: ApiRepo,
    cache: hf_hub::CacheRepo,
    files: BTreeSet<String>,
    progress: &'a mut dyn Progress,
}

impl Model<'_> {
    /// Every file that a loader wants; gives the folder they are in.
    fn get_all(&mut self) -> Result<PathBuf, HubError> {
        let config = self.need(hf::CONFIG)?;
        for file in OPTIONAL {
            if self.files.contains(file) {
                self.get(file)?;
            }
        }
        if self.files.contains(safetensors::SINGLE) {
            self.get(safetensors::SINGLE)?;
        } else if self.files.contains(safetensors::INDEX) {
            let index = self.get(safetensors::INDEX)?;
            for shard in safetensors::shards(&index)? {
                self.get(&shard)?;
            }
        } else {
            return Err(HubError::NoFile { url: self.url.clone(), file: safetensors::SINGLE });
        }
        Ok(config.parent().unwrap_or(Path::new(".")).to_owned())
    }

    fn need(&mut self, file: &'static str) -> Result<PathBuf, HubError> {
        match self.files.contains(file) {
            true => self.get(file),
            false => Err(HubError::NoFile { url: self.url.clone(), file }),
        }
    }

    /// A file from the cache, or from the server.
    fn get(&mut self, file: &str) -> Result<PathBuf, HubError> {
        if let Some(path) = self.cache.get(file) {
            return Ok(path);
        }
        let mut expected = 0;
        let adapter = Adapter { progress: self.progress, expected: &mut expected, started: false };
        let url = self.api.url(file);
        let path = self.api.download_with_progress(file, adapter).map_err(|e| from_api(&url, "", e))?;
        let len = fs::metadata(&path).map_err(|source| HubError::Cache { path: path.clone(), source })?.len();
        if len != expected {
            // What is cut short must not be found in the cache again.
            for part in [path.canonicalize().ok(), Some(path)].into_iter().flatten() {
                fs::remove_file(&part).map_err(|source| HubError::Cache { path: part, source })?;
            }
            return Err(HubError::Incomplete { url, expected, got: len });
        }
        Ok(path)
    }
}

/// Passes progress on, and remembers how long the file should be.
struct Adapter<'a> {
    progress: &'a mut dyn Progress,
    expected: &'a mut u64,
    started: bool,
}

impl hf_hub::api::Progress for Adapter<'_> {
    fn init(&mut self, size: usize, file: &str) {
        // Called twice for each file.
        if !std::mem::replace(&mut self.started, true) {
            *self.expected = size as u64;
            self.progress.start(file, size as u64);
        }
    }

    fn update(&mut self, bytes: usize) {
        self.progress.advance(bytes as u64);
    }

    fn finish(&mut self) {
        self.progress.finish();
    }
}

/// Sorts a failure by what the user can do about it.
fn from_api(url: &str, revision: &str, error: ApiError) -> HubError {
    let (url, revision) = (url.to_owned(), revision.to_owned());
    let status = match &error {
        ApiError::RequestError(e) => match e.as_ref() {
            ureq::Error::StatusCode(status) => *status,
            _ => 0,
        },
        _ => 0,
    };
    match status {
        401 | 403 => HubError::Denied { url },
        404 => HubError::NotFound { url, revision },
        _ => HubError::Api { url, source: Box::new(error) },
    }
}
