//! Objects as files, with one more call: `ListMultipartUploads`, from Amazon's API reference, in pages that are shorter than anybody's.

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input,
    ListObjectsV2Output, MultipartUpload, PutObjectInput, PutObjectOutput, Timestamp,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::SystemTime;

/// Uploads in a page.
const PAGE: usize = 2;

/// The files, and what is on its way to them.
pub struct Files {
    files: FileSystem,
    /// By key and id.
    uploads: Mutex<BTreeMap<(String, String), SystemTime>>,
}

impl Files {
    pub fn new(files: FileSystem) -> Self {
        Files { files, uploads: Mutex::default() }
    }
}

/// What the files do by themselves.
macro_rules! as_files {
    ($($call:ident: $input:ty => $output:ty),* $(,)?) => {
        #[async_trait::async_trait]
        impl S3 for Files {
            $(async fn $call(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.files.$call(request).await
            })*

            async fn create_multipart_upload(
                &self,
                request: S3Request<CreateMultipartUploadInput>,
            ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
                let key = request.input.key.clone();
                let response = self.files.create_multipart_upload(request).await?;
                let id = response.output.upload_id.clone().unwrap();
                self.uploads.lock().unwrap().insert((key, id), SystemTime::now());
                Ok(response)
            }

            async fn complete_multipart_upload(
                &self,
                request: S3Request<CompleteMultipartUploadInput>,
            ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
                let ended = (request.input.key.clone(), request.input.upload_id.clone());
                let response = self.files.complete_multipart_upload(request).await?;
                self.uploads.lock().unwrap().remove(&ended);
                Ok(response)
            }

            async fn abort_multipart_upload(
                &self,
                request: S3Request<AbortMultipartUploadInput>,
            ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
                let ended = (request.input.key.clone(), request.input.upload_id.clone());
                let response = self.files.abort_multipart_upload(request).await?;
                self.uploads.lock().unwrap().remove(&ended);
                Ok(response)
            }

            async fn list_multipart_uploads(
                &self,
                request: S3Request<ListMultipartUploadsInput>,
            ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
                Ok(S3Response::new(self.page(&request.input)))
            }
        }
    };
}

as_files! {
    put_object: PutObjectInput => PutObjectOutput,
    get_object: GetObjectInput => GetObjectOutput,
    head_object: HeadObjectInput => HeadObjectOutput,
    delete_object: DeleteObjectInput => DeleteObjectOutput,
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output,
    upload_part: UploadPartInput => UploadPartOutput,
}

impl Files {
    fn page(&self, input: &ListMultipartUploadsInput) -> ListMultipartUploadsOutput {
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.key_marker.clone().map(|key| {
            let id = input.upload_id_marker.clone().expect("both markers are given");
            (key, id)
        });
        let uploads = self.uploads.lock().unwrap();
        let mut left = uploads
            .iter()
            .filter(|((key, _), _)| key.starts_with(&prefix))
            .filter(|(upload, _)| after.as_ref().is_none_or(|after| *upload > after));
        let page: Vec<_> = left.by_ref().take(PAGE).collect();
        let last = page.last().filter(|_| left.next().is_some()).map(|(upload, _)| *upload);
        let listed = page.iter().map(|((key, id), at)| MultipartUpload {
            initiated: Some(Timestamp::from(**at)),
            key: Some(key.clone()),
            upload_id: Some(id.clone()),
            ..Default::default()
        });
        ListMultipartUploadsOutput {
            bucket: Some(input.bucket.clone()),
            is_truncated: Some(last.is_some()),
            next_key_marker: last.map(|(key, _)| key.clone()),
            next_upload_id_marker: last.map(|(_, id)| id.clone()),
            uploads: Some(listed.collect()),
            ..Default::default()
        }
    }
}
