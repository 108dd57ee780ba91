/* hyperstyle-rt: GAN inversion without PyTorch, for C and everything that calls C.
 *
 * A bundle holds a generator, which draws pictures from latents, and graphs that find for a given
 * picture the latents with which the generator draws it, and, where the bundle has them, small
 * codes that tune the generator's kernels to it. What was found is an *inversion*, a file of some
 * 40 KB. Rendered with other latents it gives edits of the same picture. How a picture is inverted
 * is a *method* of the bundle: a list of its graphs, run one after the other
 * (docs/architecture.md). This library runs any; HyperStyle is the usual one. An inversion that the
 * Python package has refined (invert --then refine) is one like any other here, if a larger one:
 * 5.2 MB at 1024 px. One with noise, free weights or a feature map of its own is refused by name.
 *
 * A first program (examples/invert.c is this with error handling):
 *
 *     1. hsrt_model *model;     hsrt_model_load(HSRT_API_VERSION, "engines/ffhq", NULL, &model);
 *     2. hsrt_session *session; hsrt_session_create(model, &session);
 *     3. hsrt_image picture = {sizeof picture, pixels, width, height, HSRT_RGB8, 0};
 *     4. hsrt_inversion *inversion; hsrt_session_invert(session, &picture, NULL, &inversion);
 *     5. hsrt_inversion_image(inversion, &result); hsrt_inversion_save(inversion, "x.safetensors");
 *     6. hsrt_inversion_free(inversion); hsrt_session_free(session); hsrt_model_free(model);
 *
 * Errors. Functions return a status. On anything but HSRT_OK no output argument has been written
 * (excepted are the memory of an hsrt_image, whose content is then undefined unless the function
 * says more, and the size that hsrt_inversion_save_memory gives) and hsrt_last_error() gives one
 * sentence that says what is wrong and how to mend it. Nothing is ever thrown, no signal raised,
 * the process never ended; running out of memory is HSRT_ERROR_MEMORY (what ONNX Runtime does
 * without memory inside a run is outside its control: most often a status, HSRT_ERROR_BACKEND
 * here).
 *
 * Threads. A model never changes and may be used by any number of threads. A session belongs to one
 * thread at a time: create one per thread. It keeps the kernels of the face it drew last (95 MB
 * with an official 1024 px model), so that further edits of that face cost the generator only; up
 * to 512 px the model keeps as much for all its sessions. An inversion may be read by many threads;
 * hsrt_inversion_set_transform needs it to itself. hsrt_last_error() is the calling thread's own.
 * Nothing may be freed while another thread uses it. One graph is computed by a pool of threads
 * that all models share, as large as hsrt_model_options.threads says of the first; a model that
 * asks for another number has threads of its own for each graph. No thread spins while it waits,
 * and none is bound to a CPU.
 *
 * Privacy. Nothing is sent anywhere. ONNX Runtime's usage reports are turned off when this library
 * is loaded, by setting the environment variable ORT_DISABLE_TELEMETRY to 1 where it is not set.
 *
 * Ownership. What a function hands out through `**` is the caller's, to be freed with the function
 * of its type, once, in any order: sessions and inversions keep alive what they need of their
 * model. Every `free` takes NULL. Pictures, buffers and options given to a function stay the
 * caller's and are not read after it returns, except the buffers of hsrt_model_load_memory.
 *
 * Text is UTF-8 and ends with NUL. Structures begin with their own size in bytes: set it to sizeof
 * and everything you do not use to zero.
 */
#ifndef HYPERSTYLE_RT_H
#define HYPERSTYLE_RT_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(HSRT_BUILDING)
#define HSRT_API __declspec(dllexport)
#elif defined(_WIN32)
#define HSRT_API __declspec(dllimport)
#else
#define HSRT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
#define HSRT_NOEXCEPT noexcept
extern "C" {
#else
#define HSRT_NOEXCEPT
#endif

/* Goes up when a program compiled with an older header would misunderstand the library. */
#define HSRT_API_VERSION 1u

typedef struct hsrt_model hsrt_model;         /* a bundle opened on a provider */
typedef struct hsrt_session hsrt_session;     /* one thread's use of a model */
typedef struct hsrt_inversion hsrt_inversion; /* what was found for a picture */

/* ---- Status ---------------------------------------------------------------------------------- */

typedef int32_t hsrt_status;
enum {
  HSRT_OK = 0,
  HSRT_ERROR_ARGUMENT = 1,  /* NULL, a wrong struct_size, or a value out of range */
  HSRT_ERROR_VERSION = 2,   /* this library does not serve the header's HSRT_API_VERSION */
  HSRT_ERROR_PICTURE = 3,   /* a picture of unusable size, format or values */
  HSRT_ERROR_BUNDLE = 4,    /* a bundle that is missing, altered, or of another format version */
  HSRT_ERROR_INVERSION = 5, /* an inversion (file) that is damaged or of another generator */
  HSRT_ERROR_BACKEND = 6,   /* a provider that is not usable on this machine */
  HSRT_ERROR_ABORTED = 7,   /* your callback asked for it; the session can be used again */
  HSRT_ERROR_MEMORY = 8,    /* out of memory */
  HSRT_ERROR_INTERNAL = 9   /* a defect of this library: please report the message */
};

/* What the calling thread's last call failed with: one sentence, empty if it did not fail. Valid
 * until the thread calls this library again. */
HSRT_API const char* hsrt_last_error(void) HSRT_NOEXCEPT;

/* "HSRT_ERROR_BUNDLE" and the like; "unknown status" for other numbers. Never freed. */
HSRT_API const char* hsrt_status_name(hsrt_status status) HSRT_NOEXCEPT;

/* ---- Versions, none of which needs a model; never freed ------------------------------------- */

HSRT_API const char* hsrt_version(void) HSRT_NOEXCEPT;             /* of this library: "0.1.0" */
HSRT_API const char* hsrt_git_revision(void) HSRT_NOEXCEPT;        /* "unknown" outside git */
HSRT_API const char* hsrt_onnxruntime_version(void) HSRT_NOEXCEPT; /* of the one loaded */
HSRT_API uint32_t hsrt_api_version(void) HSRT_NOEXCEPT; /* the HSRT_API_VERSION it was built for */

/* ---- Log ------------------------------------------------------------------------------------ */

typedef int32_t hsrt_log_level;
enum { HSRT_LOG_DEBUG = 0, HSRT_LOG_INFO = 1, HSRT_LOG_WARNING = 2, HSRT_LOG_ERROR = 3 };

/* Called from any thread, one call at a time; it must not call this library nor throw. */
typedef void (*hsrt_log_callback)(void* user, hsrt_log_level level, const char* message);

/* Where messages of this library and of ONNX Runtime go, for the whole process; NULL (the default):
 * nowhere, not even to stderr: what failed is in hsrt_last_error(). Once this returns, the callback
 * set before is not called any more. An application that has made an ONNX Runtime environment
 * before the first model keeps that one's log for ONNX Runtime's messages. */
HSRT_API void hsrt_set_log_callback(hsrt_log_callback callback, void* user) HSRT_NOEXCEPT;

/* ---- Pictures ------------------------------------------------------------------------------- */

typedef int32_t hsrt_format;
enum {
  HSRT_RGB8 = 0,  /* uint8, 3 bytes per pixel */
  HSRT_BGR8 = 1,  /* uint8, 3 bytes per pixel: OpenCV */
  HSRT_RGBA8 = 2, /* uint8, 4 bytes per pixel; laid over white when read, opaque when written */
  /* float, three planes R, G, B of height * stride bytes each, -1 (black) to 1 (white): what the
   * networks see. Read only in the size that the method's graphs take, the model's input size,
   * since nothing is resampled; written as the generator made it, not clamped. */
  HSRT_RGB_PLANES_F32 = 3
};

/* A picture in the caller's memory. */
typedef struct hsrt_image {
  size_t struct_size; /* sizeof(hsrt_image) */
  void* data;         /* first (top left) pixel; not written to where the image is an input */
  int32_t width;      /* pixels */
  int32_t height;
  hsrt_format format;
  ptrdiff_t stride; /* bytes from a row to the next; 0: rows without a gap */
} hsrt_image;

/* ---- Model ---------------------------------------------------------------------------------- */

typedef int32_t hsrt_provider;
enum {
  HSRT_PROVIDER_CPU = 0,
  HSRT_PROVIDER_CUDA = 1, /* needs an ONNX Runtime with CUDA; never falls back to the CPU */
  /* ONNX Runtime's TensorRT provider, which runs the bundle's plans for this GPU and this precision
   * (export/build_engines.py --tensorrt) through the EPContext models beside them. The bundle must
   * be loaded from its directory. */
  HSRT_PROVIDER_TENSORRT = 2
};

typedef int32_t hsrt_precision; /* of the arithmetic; pictures, latents and codes stay float */
enum {
  HSRT_PRECISION_FP32 = 0,
  /* The bundle's fp16 graphs or plans, if it was built with them: for a GPU. On the CPU they are
   * computed in fp32 and save nothing. */
  HSRT_PRECISION_FP16 = 1
};

typedef int32_t hsrt_optimisation; /* of the graphs, by ONNX Runtime when it opens them */
enum {
  HSRT_OPTIMISE_ALL = 0, /* the fastest runs */
  HSRT_OPTIMISE_EXTENDED = 1,
  HSRT_OPTIMISE_BASIC = 2,
  HSRT_OPTIMISE_NONE = 3 /* the fastest start */
};

typedef struct hsrt_model_options {
  size_t struct_size; /* sizeof(hsrt_model_options) */
  hsrt_provider provider;
  int32_t device; /* number of the GPU; of no meaning on the CPU */
  /* CPU threads of one operator, 1 to 1024, or 0 for as many as this process may use CPUs, by its
   * affinity mask and its container's CPU quota. It is never more than that. */
  int32_t threads;
  hsrt_precision precision;
  hsrt_optimisation optimisation;
} hsrt_model_options;

/* Open the bundle in a directory, which may be relative: it is looked up once. The size
 * and SHA-256 of a file are compared with the manifest before ONNX Runtime sees it, and what ONNX
 * Runtime sees is what was compared. Files may be links to files elsewhere. The generator is opened
 * now, so that an unusable provider is found out now; the other graphs when first used, so the
 * directory must stay as it is (one that went is HSRT_ERROR_BUNDLE then). Files must not be
 * shortened while they are read. TensorRT's plans are compared, too, but ONNX Runtime opens them
 * once more by their names.
 *
 * api_version: HSRT_API_VERSION; another one than the library serves is HSRT_ERROR_VERSION.
 * options: NULL for the CPU and defaults everywhere. */
HSRT_API hsrt_status hsrt_model_load(uint32_t api_version, const char* directory,
                                     const hsrt_model_options* options,
                                     hsrt_model** model) HSRT_NOEXCEPT;

/* A file of a bundle in memory. */
typedef struct hsrt_buffer {
  const char* name; /* as in the directory: "manifest.json", "encoder.onnx", "encoder.onnx.data" */
  const void* data;
  size_t size;
} hsrt_buffer;

/* Like hsrt_model_load, from memory: resources of an app, a decrypted or downloaded bundle. The
 * buffers must stay until model, sessions and inversions are freed; the array itself need not. */
HSRT_API hsrt_status hsrt_model_load_memory(uint32_t api_version, const hsrt_buffer* files,
                                            size_t count, const hsrt_model_options* options,
                                            hsrt_model** model) HSRT_NOEXCEPT;

/* Facts of a model; the texts are valid until the model is freed. */
typedef struct hsrt_model_info {
  size_t struct_size;  /* sizeof(hsrt_model_info), set before the call */
  const char* name;    /* of the bundle */
  const char* domain;  /* what it draws */
  const char* license; /* of its weights */
  /* Identity of its generator, 64 hexadecimal digits. Whatever was inverted into a space can be
   * drawn by every model of that space. */
  const char* space;
  const char* digest;   /* SHA-256 of the list of its files, which has theirs in it */
  const char* provider; /* what runs the graphs: "ONNX Runtime 1.32.0 CPUExecutionProvider" */
  int32_t image_width;  /* of a rendered picture */
  int32_t image_height;
  int32_t input_width; /* what the networks see: pictures of other sizes are resampled */
  int32_t input_height;
  int32_t latent_rows;  /* L: latents are float [L,W] */
  int32_t latent_width; /* W */
  int32_t code_rows;    /* M: offset codes are float [M,K+1]; 0 if the bundle knows no codes */
  int32_t code_width;   /* K + 1; the last column counts the codes that were summed up */
  size_t method_count;  /* see hsrt_model_get_method; 0: the bundle only draws inversions */
  const char* default_method; /* NULL without methods */
} hsrt_model_info;

HSRT_API hsrt_status hsrt_model_get_info(const hsrt_model* model,
                                         hsrt_model_info* info) HSRT_NOEXCEPT;

/* A way in which a bundle inverts; the text is valid until the model is freed. */
typedef struct hsrt_method_info {
  size_t struct_size; /* sizeof(hsrt_method_info), set before the call */
  const char* name;   /* "hyperstyle": hsrt_invert_options.method */
  int32_t iterations; /* its default; 0: it does not iterate, it finds all in one go */
} hsrt_method_info;

/* The methods of a model, by index from 0 and in the order of their names. */
HSRT_API hsrt_status hsrt_model_get_method(const hsrt_model* model, size_t index,
                                           hsrt_method_info* info) HSRT_NOEXCEPT;

HSRT_API void hsrt_model_free(hsrt_model* model) HSRT_NOEXCEPT;

/* ---- Session -------------------------------------------------------------------------------- */

HSRT_API hsrt_status hsrt_session_create(hsrt_model* model, hsrt_session** session) HSRT_NOEXCEPT;

/* What an iteration gave; the pointers are valid during the callback only. */
typedef struct hsrt_progress {
  size_t struct_size;
  int32_t iteration;      /* from 1 */
  int32_t iterations;     /* upper bound */
  const float* rendering; /* planes [3,H,W], about -1 to 1 */
  const float* codes;     /* offset codes so far, [M,K+1]; NULL if the bundle knows no codes */
} hsrt_progress;

enum {
  HSRT_ITERATIONS_DEFAULT = 0, /* as many as the method says */
  HSRT_NO_ITERATIONS = -1      /* only what the method finds before it iterates */
};

typedef struct hsrt_invert_options {
  size_t struct_size; /* sizeof(hsrt_invert_options) */
  const char* method; /* name of one of the model's methods; NULL: its default */
  /* Upper bound of iterations, 1 to 100, or one of the two above. A method that does not iterate
   * takes HSRT_ITERATIONS_DEFAULT only. */
  int32_t iterations;
  /* Stop iterating when the reconstruction moves by less than this between two iterations (mean
   * absolute difference on the -1 to 1 scale), a finite number; 0: do all. */
  float until;
  /* Called after every iteration, on the calling thread; non-zero ends the call with
   * HSRT_ERROR_ABORTED. NULL: not called. Must not throw nor use this session. */
  int32_t (*progress)(void* user, const hsrt_progress* progress);
  /* Asked before every graph run, some times per iteration; non-zero ends the call likewise. */
  int32_t (*abort)(void* user);
  void* user; /* handed to both */
} hsrt_invert_options;

/* Invert an aligned picture. Eight-bit pictures of any size are resampled as in training (exactly
 * Pillow's BILINEAR). options: NULL for defaults. A method that the bundle does not have, or a
 * bundle that only draws inversions, is HSRT_ERROR_BUNDLE. The method is all that runs: gradient
 * steps that a bundle's manifest lets follow it (`then`) are taken by the Python package only. */
HSRT_API hsrt_status hsrt_session_invert(hsrt_session* session, const hsrt_image* picture,
                                         const hsrt_invert_options* options,
                                         hsrt_inversion** inversion) HSRT_NOEXCEPT;

/* Draw an inversion, with its own latents or with others. It may have been made, or loaded, with
 * another model of the same space. A session on an adapted bundle (build_engines.py --adapt) draws
 * inversions of its base's space.
 *
 * latents: NULL for the inversion's own (count is then 1); float [count,L,W] for edits of it: its
 *     kernels are expanded once for all of them.
 * count: 1 to 4096.
 * images: `count` pictures of the model's image size, written to in their order, each as it is
 *     drawn: memory does not grow with `count`. Where the call fails while it draws, the first of
 *     them hold their pictures and the others what they held before. No image may share memory
 *     with `latents`. */
HSRT_API hsrt_status hsrt_session_render(hsrt_session* session, const hsrt_inversion* inversion,
                                         const float* latents, size_t count,
                                         const hsrt_image* images) HSRT_NOEXCEPT;

/* Draw an edit: the inversion's latents + strength * direction.
 *
 * direction, size: float [L,W] (size L * W), or [W] (size W) which is added to every row.
 * image: of the model's image size, written to. */
HSRT_API hsrt_status hsrt_session_edit(hsrt_session* session, const hsrt_inversion* inversion,
                                       const float* direction, size_t size, float strength,
                                       const hsrt_image* image) HSRT_NOEXCEPT;

HSRT_API void hsrt_session_free(hsrt_session* session) HSRT_NOEXCEPT;

/* ---- Inversion ----------------------------------------------------------------------------------
 * Files are those of the Python package, byte for byte; docs/formats.md is their specification. */

/* Read a file; it must be of this model's space. */
HSRT_API hsrt_status hsrt_inversion_load(const hsrt_model* model, const char* path,
                                         hsrt_inversion** inversion) HSRT_NOEXCEPT;

/* Read the content of a file. */
HSRT_API hsrt_status hsrt_inversion_load_memory(const hsrt_model* model, const void* data,
                                                size_t size,
                                                hsrt_inversion** inversion) HSRT_NOEXCEPT;

/* Write a file. An existing one is replaced as a whole or left as it was. */
HSRT_API hsrt_status hsrt_inversion_save(const hsrt_inversion* inversion,
                                         const char* path) HSRT_NOEXCEPT;

/* Write the content of a file to memory. *size is set to its length in any case; with buffer NULL
 * nothing else happens, with a capacity too small it is HSRT_ERROR_ARGUMENT. */
HSRT_API hsrt_status hsrt_inversion_save_memory(const hsrt_inversion* inversion, void* buffer,
                                                size_t capacity, size_t* size) HSRT_NOEXCEPT;

/* The picture drawn by hsrt_session_invert, in the model's image size. An inversion that was
 * loaded has none (HSRT_ERROR_INVERSION): draw it with hsrt_session_render. */
HSRT_API hsrt_status hsrt_inversion_image(const hsrt_inversion* inversion,
                                          const hsrt_image* image) HSRT_NOEXCEPT;

/* Views of its numbers, valid until it is freed. NULL is given for a NULL inversion, and for codes
 * where it has none: it is drawn with the generator's own kernels then, as zero codes give them. */
HSRT_API const float* hsrt_inversion_latents(const hsrt_inversion* inversion) HSRT_NOEXCEPT;
HSRT_API const float* hsrt_inversion_codes(const hsrt_inversion* inversion) HSRT_NOEXCEPT;

/* The method that found it; valid until it is freed. NULL for NULL. */
HSRT_API const char* hsrt_inversion_method(const hsrt_inversion* inversion) HSRT_NOEXCEPT;

/* How many iterations of the method were done; -1 for NULL. */
HSRT_API int32_t hsrt_inversion_iterations(const hsrt_inversion* inversion) HSRT_NOEXCEPT;

/* Nine floats, row by row: from pixels (x, y, 1) of the photo to pixels of the aligned crop that
 * was inverted. NULL if it carries none. It is stored with the inversion, nothing else is done with
 * it. */
HSRT_API const float* hsrt_inversion_transform(const hsrt_inversion* inversion) HSRT_NOEXCEPT;

/* Set it, or remove it with NULL. */
HSRT_API hsrt_status hsrt_inversion_set_transform(hsrt_inversion* inversion,
                                                  const float* transform) HSRT_NOEXCEPT;

/* How many channel offsets it has: of the tuned layers' kernels, one per pair of channels, as
 * refining finds them. Whatever is drawn of it is drawn with them, by a graph that a bundle, and
 * the plans of HSRT_PROVIDER_TENSORRT, may lack (HSRT_ERROR_BUNDLE then). 0: none, or NULL. */
HSRT_API size_t hsrt_inversion_channel_offset_count(const hsrt_inversion* inversion) HSRT_NOEXCEPT;

HSRT_API void hsrt_inversion_free(hsrt_inversion* inversion) HSRT_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* HYPERSTYLE_RT_H */
